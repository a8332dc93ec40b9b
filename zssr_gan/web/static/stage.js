// A frame of a video with a shape on it: a rectangle or four corners, drawn and moved by mouse, finger or keys.
import { h } from "./dom.js";

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/** Corners of a region, from its upper left one, clockwise. */
export function rectangle([x, y, width, height]) {
  return [[x, y], [x + width, y], [x + width, y + height], [x, y + height]];
}

/** The region around corners, in whole pixels inside a frame. */
export function region(points, width, height) {
  const xs = points.map(([x]) => x), ys = points.map(([, y]) => y);
  const left = clamp(Math.round(Math.min(...xs)), 0, width - 1), top = clamp(Math.round(Math.min(...ys)), 0, height - 1);
  return [left, top, clamp(Math.round(Math.max(...xs)) - left, 1, width - left), clamp(Math.round(Math.max(...ys)) - top, 1, height - top)];
}

const COMING = "This frame is coming…";
const NAMES = ["upper left", "upper right", "lower right", "lower left"];

/**
 * The stage; `onzoom(times)` is called when fingers made it larger or smaller. `shape.mode` is "rectangle", "corners" (both drawn anew) or "fixed" (the corners of a track, which can be moved);
 * `onchange(points)` is called with every change that a person makes.
 */
export function stage(onchange, onzoom) {
  const shape = { mode: "rectangle", points: [], style: "marked" };
  let width = 1, height = 1, grip = null, factor = 1;
  const image = h("img", { alt: "", draggable: "false", onload: () => come(""), onerror: () => come("This frame cannot be shown.") });
  const polygon = h("polygon", { class: "shape" });
  const overlay = h("svg", { "aria-hidden": "true" }, polygon);
  const handles = [0, 1, 2, 3].map((index) => h("button", { type: "button", class: "handle-corner", hidden: true, "aria-label": `${NAMES[index]} corner`, onkeydown: (event) => nudge(event, index) }));
  const fingers = new Map(); // of touches: where each is
  let space = false, begun = []; // whether Space is held; the shape before the first finger or the mouse came
  const node = h("div", { class: "frame-stage", onpointerdown: press, onpointermove: move, onpointerup: release, onpointercancel: release }, image, overlay, handles);

  /** Until the picture of a frame has come nothing can be drawn on it: the one before is still seen. */
  function come(wrong) {
    node.classList.toggle("coming", wrong !== "");
    node.dataset.wait = wrong;
    node.setAttribute("aria-busy", String(wrong === COMING));
  }

  function draw() {
    polygon.setAttribute("points", shape.points.map((point) => point.join(",")).join(" "));
    polygon.setAttribute("class", `shape ${shape.style}`);
    handles.forEach((handle, index) => {
      const point = shape.points[index];
      handle.hidden = !point;
      if (!point) return;
      handle.style.setProperty("left", `${(100 * point[0]) / width}%`);
      handle.style.setProperty("top", `${(100 * point[1]) / height}%`);
      handle.setAttribute("aria-label", `${NAMES[index]} corner, x ${point[0].toFixed(1)}, y ${point[1].toFixed(1)} px: arrow keys move it`);
    });
  }

  function change() {
    draw();
    onchange(shape.points);
  }

  function place(event) {
    const box = image.getBoundingClientRect();
    return [clamp(((event.clientX - box.x) / box.width) * width, 0, width), clamp(((event.clientY - box.y) / box.height) * height, 0, height)];
  }

  /** Move the enlarged picture by so many pixels of the screen. */
  function pan(right, down) {
    node.parentNode.scrollBy(right, down);
  }

  /** The middle of the fingers, and how far apart they are. */
  function touch() {
    const [[x, y], [u, v]] = [...fingers.values()];
    return { x: (x + u) / 2, y: (y + v) / 2, apart: Math.max(1, Math.hypot(x - u, y - v)), factor };
  }

  function press(event) {
    if (event.pointerType === "touch") {
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
      if (fingers.size > 2) return;
      if (fingers.size === 2) { // what the first finger began is taken back
        grip = { kind: "fingers", ...touch() };
        if (shape.points === begun) return;
        shape.points = begun;
        return change();
      }
    }
    begun = shape.points;
    if (event.button === 1 || (space && event.button === 0)) {
      grip = { kind: "pan" };
      node.setPointerCapture(event.pointerId);
      return event.preventDefault();
    }
    if (event.button !== 0 || node.classList.contains("coming")) return;
    const at = place(event), corner = handles.indexOf(event.target);
    if (corner >= 0) grip = { kind: "corner", corner };
    else if (shape.points.length === 4 && inside(at, shape.points)) grip = { kind: "all", at, from: shape.points };
    else if (shape.mode === "rectangle") {
      grip = { kind: "new", at };
    } else if (shape.mode === "corners") {
      if (shape.points.length === 4) return; // a stray click takes nothing away
      shape.points = [...shape.points, at];
      if (shape.points.length === 4) shape.points = clockwise(shape.points);
      change();
      event.preventDefault();
      return;
    } else return;
    node.setPointerCapture(event.pointerId);
    event.preventDefault();
    if (corner >= 0) event.target.focus({ preventScroll: true });
  }

  function move(event) {
    if (fingers.has(event.pointerId)) fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (grip === null) return;
    if (grip.kind === "pan") return pan(-event.movementX, -event.movementY);
    if (grip.kind === "fingers") {
      if (fingers.size < 2) return;
      const { x, y, apart } = touch();
      pan(grip.x - x, grip.y - y);
      grip = { ...grip, x, y };
      return onzoom(resize((grip.factor * apart) / grip.apart, x, y));
    }
    const at = place(event);
    if (grip.kind === "corner") moveCorner(grip.corner, at);
    if (grip.kind === "new") shape.points = rectangle(region([grip.at, at], width, height));
    if (grip.kind === "all") shift(grip.from, at[0] - grip.at[0], at[1] - grip.at[1]);
    change();
  }

  function release(event) {
    fingers.delete(event.pointerId);
    if (grip?.kind === "fingers" && fingers.size) return; // the other finger draws nothing
    if (grip?.kind === "new" && shape.points.length === 4) {
      const [, , wide, high] = region(shape.points, width, height);
      if (wide < 4 || high < 4) shape.points = []; // a click draws nothing
      change();
    }
    grip = null;
  }

  function shift(points, dx, dy) {
    const xs = points.map(([x]) => x), ys = points.map(([, y]) => y);
    let right = clamp(dx, -Math.min(...xs), width - Math.max(...xs)), down = clamp(dy, -Math.min(...ys), height - Math.max(...ys));
    if (shape.mode === "rectangle") [right, down] = [Math.round(right), Math.round(down)];
    shape.points = points.map(([x, y]) => [x + right, y + down]);
  }

  function moveCorner(index, [x, y]) {
    const points = shape.points.map((point) => [...point]);
    if (shape.mode === "rectangle" && points.length === 4) {
      const opposite = points[(index + 2) % 4];
      const at = [Math.round(x), Math.round(y)];
      const boxed = region([opposite, at], width, height);
      if (boxed[2] < 4 || boxed[3] < 4) return;
      shape.points = rectangle(boxed);
    } else {
      points[index] = [x, y];
      shape.points = points;
    }
  }

  function nudge(event, index) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const by = event.shiftKey && shape.mode !== "rectangle" ? 0.1 : 1, [x, y] = shape.points[index];
    moveCorner(index, [clamp(x + by * step[0], 0, width), clamp(y + by * step[1], 0, height)]);
    change();
  }

  /** Show it so many times as large as it fits; what is at a place of the screen stays there. */
  function resize(times, x, y) {
    const pane = node.parentNode, before = node.getBoundingClientRect();
    const across = (x - before.x) / before.width, down = (y - before.y) / before.height;
    factor = clamp(times, 1, 16);
    node.style.setProperty("--zoom", String(factor));
    const box = node.getBoundingClientRect();
    pane.scrollBy(box.x + across * box.width - x, box.y + down * box.height - y);
    return factor;
  }

  const keyDown = (event) => {
    if (event.key === " " && node.matches(":hover")) {
      space = true;
      node.classList.add("pans");
      event.preventDefault(); // no button is pressed by it, and the page does not scroll
    }
    const by = event.altKey && { ArrowLeft: [-80, 0], ArrowRight: [80, 0], ArrowUp: [0, -80], ArrowDown: [0, 80] }[event.key];
    if (!by || factor === 1) return;
    pan(...by);
    event.preventDefault(); // the browser would leave the page
  };
  const keyUp = (event) => {
    if (event.key !== " ") return;
    space = false;
    node.classList.remove("pans");
  };
  addEventListener("keydown", keyDown);
  addEventListener("keyup", keyUp);

  return {
    node,
    shape,
    leave() {
      removeEventListener("keydown", keyDown);
      removeEventListener("keyup", keyUp);
    },
    /** Show a frame. */
    show(url, text, wide, high) {
      [width, height] = [wide, high];
      overlay.setAttribute("viewBox", `0 0 ${wide} ${high}`);
      node.style.setProperty("--aspect", String(wide / high));
      if (image.getAttribute("src") !== url) {
        come(COMING);
        image.src = url;
      }
      image.alt = text;
      draw();
    },
    /** Show it larger or smaller: around the shape at first, then around what is in the middle; returns how large. */
    zoom(by) {
      const middle = () => { const pane = node.parentNode.getBoundingClientRect(); return [pane.x + pane.width / 2, pane.y + pane.height / 2]; };
      if (factor > 1 || !shape.points.length) return resize(factor * by, ...middle());
      const box = image.getBoundingClientRect();
      const [x, y] = [0, 1].map((axis) => shape.points.reduce((sum, point) => sum + point[axis] / shape.points.length, 0));
      const at = [box.x + (x / width) * box.width, box.y + (y / height) * box.height];
      resize(factor * by, ...at);
      pan(at[0] - middle()[0], at[1] - middle()[1]);
      return factor;
    },
    /** Set the shape; nobody is told. */
    set(facts) {
      Object.assign(shape, facts);
      draw();
    },
    image,
  };
}

function inside([x, y], points) {
  let odd = false;
  points.forEach(([ax, ay], index) => {
    const [bx, by] = points[(index + 3) % 4];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) odd = !odd;
  });
  return odd;
}

/** Four corners in the order upper left, upper right, lower right, lower left. */
export function clockwise(points) {
  const x = points.reduce((sum, point) => sum + point[0], 0) / 4, y = points.reduce((sum, point) => sum + point[1], 0) / 4;
  const round = [...points].sort((a, b) => Math.atan2(a[1] - y, a[0] - x) - Math.atan2(b[1] - y, b[0] - x));
  const first = round.reduce((best, point, index) => (point[0] + point[1] < round[best][0] + round[best][1] ? index : best), 0);
  return [...round.slice(first), ...round.slice(0, first)];
}
