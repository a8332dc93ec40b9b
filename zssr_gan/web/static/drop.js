// A zone that takes files and folders, by drop or by the browser's file chooser.
import { button, h } from "./dom.js";
import { dropped } from "./uploads.js";

export function dropZone(take, { text, hint }) {
  const files = h("input", { type: "file", multiple: true, class: "hidden", tabindex: "-1", "aria-label": "Choose files", onchange: () => { if (files.files.length) take([...files.files]); } });
  const folder = h("input", { type: "file", webkitdirectory: true, class: "hidden", tabindex: "-1", "aria-label": "Choose a folder", onchange: () => { if (folder.files.length) take([...folder.files].filter((file) => !file.name.startsWith("."))); } });
  let inside = 0;
  async function drop(event) {
    inside = 0;
    zone.classList.remove("over");
    const found = await dropped(event.dataTransfer);
    if (found.length) take(found);
  }
  const zone = h("div", {
    class: "drop",
    ondragenter: (event) => { event.preventDefault(); inside += 1; zone.classList.add("over"); },
    ondragleave: () => { inside -= 1; if (inside <= 0) zone.classList.remove("over"); },
    ondragover: (event) => { event.preventDefault(); event.dataTransfer.dropEffect = "copy"; },
    ondrop: (event) => { event.preventDefault(); drop(event); },
  },
  h("p", { class: "drop-text" }, text), hint ? h("p", { class: "quiet" }, hint) : null,
  h("div", { class: "row" }, button("Choose files…", () => files.click(), { class: "primary" }), button("Choose a folder…", () => folder.click()), files, folder));
  zone.drop = drop;
  return zone;
}
