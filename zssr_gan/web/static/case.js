// One case: its steps, in the order of the work.
import { h, link, redraw } from "./dom.js";
import * as camera from "./camera.js";
import * as enhance from "./enhance.js";
import * as files from "./files.js";
import * as handover from "./handover.js";
import * as look from "./look.js";
import * as mark from "./mark.js";
import { isVideo, jobsOf, state } from "./state.js";

const STEPS = [
  ["files", "Files", files], ["camera", "Camera", camera], ["mark", "Mark", mark],
  ["enhance", "Enhance", enhance], ["look", "Look", look], ["handover", "Hand over", handover],
];

/** The address of a step of the open case. */
export function step(name, ...rest) {
  return ["#/case", encodeURIComponent(state.open.id), name, ...rest.map(encodeURIComponent)].join("/");
}

export function show(root, name, rest) {
  const found = STEPS.find(([key]) => key === name) ?? (state.open.results.length ? STEPS[4] : STEPS[0]);
  const nav = h("nav", { class: "steps", "aria-label": "Steps of the case" });
  const body = h("div", { class: `view ${found[0]}` });
  root.replaceChildren(nav, body);
  const bar = () => redraw(nav, h("ol", {}, STEPS.map(([key, title], index) => {
    const off = key === "mark" && !state.open.originals.some(isVideo);
    const text = [h("span", { class: "step-number", "aria-hidden": "true" }, String(index + 1)), title, h("span", { class: "step-count" }, note(key))];
    return h("li", {}, off ? h("span", { class: "off", title: "This case has no video" }, text) : link(text, step(key), { "aria-current": key === found[0] ? "step" : null }));
  })));
  bar();
  const view = found[2].show(body, rest);
  return {
    ...view,
    viewKey: view.key,
    update(what, facts) {
      if (what !== "upload") bar();
      view.update?.(what, facts);
    },
  };
}

function note(key) {
  const { open } = state;
  if (key === "files") return open.originals.length || "";
  if (key === "camera") return open.estimates.length || "";
  if (key === "mark") return open.tracks.length || "";
  if (key === "look") return jobsOf(open.id).some((job) => job.state === "running" && look.SHOWN.includes(job.kind)) ? "…" : open.results.length || "";
  return "";
}

export function key(event, shown) {
  const number = Number(event.key);
  if (number >= 1 && number <= STEPS.length && !event.shiftKey) {
    const [name] = STEPS[number - 1];
    if (name !== "mark" || state.open.originals.some(isVideo)) location.hash = step(name);
    return;
  }
  shown.viewKey?.(event);
}
