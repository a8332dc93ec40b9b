// What the keys do, and the words of the page.
import { dialog, h, labels, meaning } from "./dom.js";

const KEYS = {
  "Anywhere": [["?", "this list"], ["1 to 6", "the steps of a case"], ["Esc", "close the newest message"]],
  "Marking a video": [["← →", "one frame back or forward; with Shift ten"], ["Home, End", "first or last frame"], ["arrow keys on a corner", "move it by a pixel; with Shift by a tenth"], ["X", "leave this frame out, or take it in again"], ["+ −", "larger, smaller"], ["Alt + arrow keys, Space and drag, two fingers", "move the enlarged picture"]],
  "Looking": [
    ["P (hold)", "the plain enlargement"], ["S", "slider"], ["B", "blink"], ["D", "side by side"], ["E", "evidence map over the result"],
    ["+ −", "zoom to the pixel and back"], ["0", "fit the window"], ["← →", "the result before or after; on the slider, move it"]],
};

export function help() {
  dialog("Keys and help", h("div", { class: "help" },
    Object.entries(KEYS).map(([title, keys]) => h("section", {}, h("h3", {}, title), h("dl", {}, keys.map(([key, text]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, text)])))),
    h("section", {}, h("h3", {}, "Labels: what the pixels of a result were learnt from"),
      h("dl", {}, Object.keys(labels).map((label) => [h("dt", {}, h("span", { class: `badge ${label}` }, label)), h("dd", {}, meaning(label))]))),
    h("section", {}, h("h3", {}, "Evidence map"), h("p", {}, "Bright means: a guess, since turned and flipped views of an enhanced picture disagree there, or since few frames of a fusion show it. Dark means: consistent with the input, not proven."))));
}
