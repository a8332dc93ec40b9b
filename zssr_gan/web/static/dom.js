// Elements made by calls, never from markup: no text of a user is read as HTML.

const SVG = new Set(["svg", "polygon", "line", "g", "circle", "path"]);
const PROPERTIES = new Set(["value", "checked", "indeterminate", "muted"]);

/** Make an element: `props` are attributes, `onclick` and the like listeners, `style` an object of CSS properties. */
export function h(tag, props, ...children) {
  const node = SVG.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  let late = [];
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, one] of Object.entries(value)) node.style.setProperty(key, one);
    else if (PROPERTIES.has(name)) late.push([name, value]);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...shown(children));
  for (const [name, value] of late) node[name] = value; // a select has its options first
  return node;
}

function shown(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

const held = new Map(); // elements that are drawn anew when nothing in them is pressed any more, and what they hold then
let pressed = null; // where the mouse, a finger or Space is down: if that element went, nothing would be clicked

function release() {
  if (pressed === null) return;
  pressed = null;
  setTimeout(() => [...held].forEach(([root, children]) => redraw(root, ...children))); // after the click
}

addEventListener("pointerdown", (event) => { pressed = event.target; }, true);
addEventListener("keydown", (event) => { if (event.key === " ") pressed = event.target; else release(); }, true);
addEventListener("blur", release);
for (const name of ["pointerup", "pointercancel", "pointermove", "keyup", "change"]) addEventListener(name, (event) => { if (!event.buttons) release(); }, true);

/**
 * Replace what an element holds; the focus, the open details and the scroll of lists stay where they were. While something in it is pressed, it waits.
 * Elements that it holds already, and is to hold on, come by a function: by then their focus is noted.
 */
export function redraw(root, ...children) {
  held.delete(root);
  if (pressed && root.contains(pressed)) return held.set(root, children);
  const active = root.contains(document.activeElement) ? signature(document.activeElement) : null;
  const open = new Set([...root.querySelectorAll("details[open] > summary")].map(signature));
  root.replaceChildren(...shown(children.map((child) => (typeof child === "function" ? child() : child))));
  for (const summary of root.querySelectorAll("details > summary")) if (open.has(signature(summary))) summary.parentNode.open = true;
  if (active === null || root.contains(document.activeElement)) return;
  const again = [...root.querySelectorAll("a, button, input, select, textarea, summary, [tabindex]")].find((node) => signature(node) === active);
  if (again) again.focus({ preventScroll: true });
}

function signature(node) { // `data-key` tells elements of a list apart whose words are the same
  return [node.closest("[data-key]")?.dataset.key, node.tagName, node.id, node.name, node.type, node.getAttribute("aria-label") ?? node.textContent, node.getAttribute("href") ?? node.getAttribute("value")].join("|");
}

export function button(text, onclick, props = {}) {
  return h("button", { type: "button", onclick, ...props }, text);
}

export function link(text, href, props = {}) {
  return h("a", { href, ...props }, text);
}

/** A command line with a button that copies it. */
export function command(text, label = "The command that does this") {
  const copy = button("Copy", async () => {
    try {
      await navigator.clipboard.writeText(text);
      copy.textContent = "Copied";
    } catch {
      const range = document.createRange();
      range.selectNodeContents(code);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      copy.textContent = "Marked: press Ctrl+C";
    }
    setTimeout(() => { copy.textContent = "Copy"; }, 3000);
  }, { class: "small" });
  const code = h("code", { tabindex: "0" }, text);
  return h("div", { class: "command" }, h("span", { class: "quiet" }, label), h("div", {}, code, copy));
}

export const labels = {}; // what each label means, in the server's words

/** The label of a result: what its pixels were learnt from. */
export function badge(label, text = label) {
  return label ? h("span", { class: `badge ${label}`, title: labels[label] ?? "" }, text) : null;
}

export function meaning(label) {
  return labels[label] ?? "";
}

const NOTICES = 3, SHOWN = 8000; // at once; milliseconds that one is shown, longer while the mouse or the focus is on it

const notices = () => [...document.querySelectorAll("#notices .notice")].sort((a, b) => a.dataset.number - b.dataset.number);
let told = 0;

/** Show a message below the page; it goes away by itself, or, of an error, stays until it is closed. */
export function notice(text, { error = false } = {}) {
  for (const old of notices()) if (old.dataset.text === text) close(old);
  const one = h("div", { class: error ? "notice error" : "notice", "data-text": text, "data-number": String((told += 1)) }, h("p", {}, text), button("Close", () => close(one), { class: "small", "aria-label": `Close: ${text}` }));
  document.querySelector(`#notices [role="${error ? "alert" : "status"}"]`).append(one);
  notices().slice(0, -NOTICES).forEach(close);
  const end = () => (one.matches(":hover, :focus-within") ? setTimeout(end, SHOWN) : close(one));
  if (!error) setTimeout(end, SHOWN);
  makeRoom();
}

function close(one) {
  const focused = one.contains(document.activeElement);
  one.remove();
  if (focused) document.getElementById("main").focus({ preventScroll: true });
  makeRoom();
}

/** Close the newest message; false where there is none. */
export function closeNotice() {
  const newest = notices().at(-1);
  if (newest) close(newest);
  return Boolean(newest);
}

/** What sticks to the window's lower edge stands above the messages. */
function makeRoom() {
  document.documentElement.style.setProperty("--notices", `${document.getElementById("notices").offsetHeight}px`);
}

/** Do what a button asks for; say what went wrong. */
export async function attempt(action) {
  try {
    return await action();
  } catch (error) {
    notice(error.message, { error: true });
    return null;
  }
}

/** Open the dialog: a title, what it holds, and one button that does it. */
export function dialog(title, content, { action = null, label = "OK", danger = false } = {}) {
  const box = document.getElementById("dialog");
  const form = h("form", { method: "dialog", onsubmit: async (event) => {
    if (action === null) return;
    event.preventDefault();
    form.querySelector(".wrong")?.remove();
    try {
      await action(new FormData(form));
      box.close();
    } catch (error) {
      form.insertBefore(h("p", { class: "wrong", role: "alert" }, error.message), form.lastChild);
    }
  } },
  h("h2", { id: "dialog-title" }, title), content,
  h("div", { class: "row end" },
    action === null ? null : button("Cancel", () => box.close()),
    h("button", { class: danger ? "danger" : "primary" }, action === null ? "Close" : label)));
  box.replaceChildren(form);
  box.showModal();
  (form.querySelector("input, select") ?? form.querySelector("button"))?.focus({ preventScroll: true });
  box.scrollTop = 0; // a long one is read from its beginning
}
