// Two pictures of one size, compared: slider, blink, side by side, evidence over the result; zoom to the pixel.
import { badge, button, h } from "./dom.js";
import { size } from "./format.js";

const MODES = [["slider", "Slider", "s"], ["blink", "Blink", "b"], ["side", "Side by side", "d"], ["evidence", "Evidence", "e"]];
const ZOOMS = [0.25, 0.5, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32];
const BLINK = 700; // milliseconds each picture is shown

/** The viewer of a result; `sides` are `{key, title, made, url, label}`, the first of them the plain enlargement if there is one. */
export function viewer({ width, height, title, sides, result, evidence }) {
  let mode = "slider", zoom = 1, fitted = true, left = sides[0], right = sides.find((one) => one.key === result) ?? sides[0], timer = null, blinking = false, meaning = "";
  const under = h("img", { class: "under", draggable: "false" }), over = h("img", { class: "over", alt: "", draggable: "false" }), map = h("img", { class: "map", alt: "", draggable: "false" }), plain = h("img", { class: "plain-over", alt: "", draggable: "false" });
  const slide = h("input", { class: "slider", type: "range", min: "0", max: "100", step: "0.5", value: "50", "aria-label": "How much of the left picture is shown", oninput: moved });
  const overlay = h("div", { class: "overlay" }, under, over, map, plain, h("span", { class: "divider", "aria-hidden": "true" }), slide);
  const other = h("img", { class: "under", draggable: "false" }), plainToo = h("img", { class: "plain-over", alt: "", draggable: "false" }), otherOverlay = h("div", { class: "overlay" }, other, plainToo);
  const main = h("div", { class: "pane", tabindex: "0", role: "region", "aria-label": `${title}, enlarged`, onscroll: () => follow(main, second) }, overlay);
  const second = h("div", { class: "pane", tabindex: "0", role: "region", "aria-label": "The right picture, enlarged", onscroll: () => follow(second, main) }, otherOverlay);
  const readout = h("span", { class: "quiet readout" });
  const zoomText = h("output", { "aria-live": "polite" });
  const opacity = h("input", { type: "range", min: "0", max: "100", value: "100", oninput: () => overlay.style.setProperty("--opacity", String(opacity.value / 100)) });
  const scale = h("div", { class: "map-scale" });
  const [leftPick, rightPick] = ["left", "right"].map((side) => h("select", { "aria-label": `${side} picture`, onchange: (event) => pick(side, event.target.value) }));
  const [leftTag, rightTag, secondTag] = [h("span"), h("span"), h("span")]; // above the pictures: what each of them is
  const possible = ([name]) => (name === "evidence" ? evidence : sides.length > 1);
  const modes = h("div", { class: "segmented", role: "group", "aria-label": "How to compare" }, [["single", "Result", "s"], ...MODES].filter((one) => (one[0] === "single" ? sides.length < 2 && evidence : possible(one))).map(([name, text, key]) => button(text, () => set(name), { "data-mode": name, "aria-keyshortcuts": key, title: `Key ${key.toUpperCase()}` })));
  const hold = button("Plain enlargement (P)", () => {}, { class: "hold", "aria-pressed": "false", "aria-keyshortcuts": "p", onclick: () => showPlain(!node.classList.contains("plainly")) });
  const pause = button("Pause", () => { blinking = !blinking; blink(); }, { class: "small" });
  const secondBox = h("div", { class: "pane-box", hidden: true }, h("div", { class: "tags" }, secondTag), second);
  const node = h("section", { class: "viewer", "aria-label": `Compare: ${title}` },
    h("div", { class: "row viewer-bar" }, modes, sides[0].key === "plain" ? hold : null),
    h("div", { class: "sides" }, h("label", {}, leftPick),
      h("span", { class: "zoom" }, button("−", () => step(-1), { "aria-label": "Zoom out", title: "Key −" }), zoomText, button("+", () => step(1), { "aria-label": "Zoom in", title: "Key +" }), button("Fit", fit, { title: "Key 0" })),
      h("label", { class: "right" }, rightPick)),
    h("div", { class: "panes", onpointermove: read, onpointerleave: () => { readout.textContent = size(width, height); } },
      h("div", { class: "pane-box" }, h("div", { class: "tags" }, leftTag, rightTag), main), secondBox),
    h("div", { class: "row under-bar" }, readout, h("span", { class: "grow" }), pause, h("label", { class: "evidence-tools" }, "Strength of the map ", opacity), scale));
  overlay.style.setProperty("--opacity", "1");
  if (sides[0].key === "plain") plain.src = plainToo.src = sides[0].url;
  overlay.addEventListener("pointerdown", pan);
  otherOverlay.addEventListener("pointerdown", pan);

  function moved() {
    overlay.style.setProperty("--share", `${slide.value}%`);
    slide.setAttribute("aria-valuetext", `${Math.round(slide.value)} percent ${left.title}, the rest ${right.title}`);
  }

  function fill() {
    for (const [select, chosen] of [[leftPick, left], [rightPick, right]]) {
      select.replaceChildren(...sides.map((one) => h("option", { value: one.key }, one.title)));
      select.value = chosen.key;
    }
    tags();
    const below = mode === "side" ? left : right;
    for (const [image, url] of [[under, below.url], [over, left.url], [other, right.url]]) if (image.getAttribute("src") !== url) image.src = url;
    under.alt = below.title;
    over.alt = mode === "slider" ? left.title : "";
    other.alt = right.title;
    moved();
  }

  function tags() {
    const tag = (one) => (one.key === "plain" ? [one.title] : [badge(one.label, one.tag), ` ${one.made}`]);
    const shown = { slider: [left, right], blink: [node.classList.contains("blinked") ? left : right, null], side: [left, null], evidence: [right, null], single: [right, null] }[mode];
    const plainly = node.classList.contains("plainly");
    leftTag.replaceChildren(...tag(plainly ? sides[0] : shown[0]), mode === "evidence" && !plainly ? h("span", {}, ` · evidence map: ${meaning}`) : "");
    rightTag.replaceChildren(...(shown[1] && !plainly ? tag(shown[1]) : []));
    secondTag.replaceChildren(...tag(plainly ? sides[0] : right));
  }

  function pick(side, key) {
    const one = sides.find((each) => each.key === key);
    if (side === "left") left = one;
    else right = one;
    fill();
  }

  function set(name) {
    mode = name;
    node.dataset.mode = mode;
    for (const one of modes.children) one.setAttribute("aria-pressed", String(one.dataset.mode === mode));
    leftPick.parentNode.hidden = mode === "evidence" || sides.length < 2;
    rightPick.parentNode.hidden = sides.length < 2;
    secondBox.hidden = mode !== "side";
    slide.hidden = mode !== "slider";
    pause.hidden = mode !== "blink";
    scale.hidden = opacity.parentNode.hidden = mode !== "evidence";
    blinking = mode === "blink" && !matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (mode === "evidence") {
      right = sides.find((one) => one.key === result) ?? right;
      if (!map.src) legend();
    }
    rightPick.disabled = mode === "evidence";
    fill();
    said();
    blink();
    if (fitted) fit();
  }

  function blink() {
    clearInterval(timer);
    timer = null;
    pause.textContent = blinking ? "Pause" : "Switch on";
    if (mode !== "blink") return node.classList.remove("blinked");
    if (blinking) timer = setInterval(() => { node.classList.toggle("blinked"); said(); }, BLINK);
    said();
  }

  function said() {
    tags();
    const shown = node.classList.contains("plainly") ? "plain enlargement (bicubic)" : mode === "blink" ? (node.classList.contains("blinked") ? left : right).title : null;
    readout.textContent = [shown, size(width, height)].filter(Boolean).join(" · ");
  }

  async function legend() { // the map's scale comes with it
    scale.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch(evidence, { credentials: "same-origin" });
      if (!answer.ok) throw new Error((await answer.json()).error);
      map.src = evidence;
      const found = JSON.parse(answer.headers.get("X-Zssr-Gan-Scale") ?? "{}");
      meaning = (found.text ?? "").split(". ").slice(1).join("; ").toLowerCase();
      tags();
      const known = found.dark !== null && found.bright !== null;
      scale.replaceChildren(...(known ? [h("span", {}, `${found.dark}`), h("span", { class: "ramp", "aria-hidden": "true" }), h("span", {}, `${found.bright} ${found.unit}`)] : []), h("span", { class: "quiet" }, found.text));
    } catch (error) {
      scale.replaceChildren(h("span", { class: "wrong" }, `The map cannot be shown: ${error.message}`));
    }
    scale.setAttribute("aria-busy", "false");
  }

  function showPlain(on) {
    node.classList.toggle("plainly", on);
    hold.setAttribute("aria-pressed", String(on));
    said();
  }

  function apply() {
    for (const one of [overlay, otherOverlay]) {
      one.style.setProperty("--width", `${width * zoom}px`);
      one.style.setProperty("--height", `${height * zoom}px`);
    }
    zoomText.textContent = `${zoom >= 1 ? Number(zoom.toFixed(1)) : zoom.toFixed(2)} ×`;
    zoomText.title = "screen pixels for each pixel of the result";
  }

  function zoomTo(value) {
    const about = [main.scrollLeft + main.clientWidth / 2, main.scrollTop + main.clientHeight / 2].map((one) => one / zoom);
    fitted = false;
    zoom = value;
    apply();
    main.scrollTo(about[0] * zoom - main.clientWidth / 2, about[1] * zoom - main.clientHeight / 2);
  }

  function step(by) {
    const next = by > 0 ? ZOOMS.find((one) => one > zoom * 1.001) : ZOOMS.findLast((one) => one < zoom * 0.999);
    if (next) zoomTo(next);
  }

  function fit() {
    fitted = true;
    const space = Math.max(80, main.clientWidth - 2), high = Math.max(320, innerHeight - main.getBoundingClientRect().top - scrollY - (mode === "evidence" ? 130 : 96));
    const largest = Math.min(space / width, high / height);
    zoom = largest >= 1 ? Math.max(1, Math.floor(largest * 2) / 2) : largest;
    apply();
  }

  let following = false;
  function follow(from, to) {
    if (following || secondBox.hidden) return;
    following = true;
    to.scrollTo(from.scrollLeft, from.scrollTop);
    requestAnimationFrame(() => { following = false; });
  }

  function pan(event) { // the slider takes its own drags; elsewhere the picture is moved
    if (event.target === slide || event.button !== 0 || event.pointerType === "touch") return;
    const begin = [event.clientX, event.clientY, main.scrollLeft, main.scrollTop], around = event.currentTarget.parentNode;
    const go = (next) => around.scrollTo(begin[2] - next.clientX + begin[0], begin[3] - next.clientY + begin[1]);
    addEventListener("pointermove", go);
    addEventListener("pointerup", () => removeEventListener("pointermove", go), { once: true });
  }

  function read(event) {
    const box = (second.contains(event.target) ? otherOverlay : overlay).getBoundingClientRect();
    const x = Math.floor(((event.clientX - box.x) / box.width) * width), y = Math.floor(((event.clientY - box.y) / box.height) * height);
    if (x >= 0 && y >= 0 && x < width && y < height) readout.textContent = `x ${x}, y ${y} px of ${size(width, height)}`;
  }

  const keyUp = (event) => { if (event.key.toLowerCase() === "p") showPlain(false); };
  const resized = () => { if (fitted) fit(); };
  addEventListener("keyup", keyUp);
  addEventListener("resize", resized);
  readout.textContent = size(width, height);
  set(sides.length > 1 ? "slider" : "single");

  return {
    node,
    fit,
    /** Other pictures have come, or gone. */
    sides(next) {
      if (JSON.stringify(next) === JSON.stringify(sides)) return;
      sides = next;
      if (sides[0].key === "plain") plain.src = plainToo.src = sides[0].url;
      left = sides.find((one) => one.key === left.key) ?? sides[0];
      right = sides.find((one) => one.key === right.key) ?? sides[0];
      fill();
    },
    key(event) {
      const key = event.key.toLowerCase(), found = MODES.find((one) => one[2] === key && possible(one));
      if (found) set(found[0]);
      else if (key === "p" && sides[0].key === "plain") showPlain(true);
      else if (key === "+" || key === "=") step(1);
      else if (key === "-" || key === "−") step(-1);
      else if (key === "0") fit();
      else if (key === " " && mode === "blink") { blinking = !blinking; blink(); }
      else return;
      event.preventDefault();
    },
    leave() {
      clearInterval(timer);
      removeEventListener("keyup", keyUp);
      removeEventListener("resize", resized);
    },
  };
}
