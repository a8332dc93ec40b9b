// All cases; a drop here makes a new one.
import { call, caseUrl, get, post, put, remove } from "./api.js";
import { attempt, button, command, dialog, h, link, redraw } from "./dom.js";
import { dropZone } from "./drop.js";
import { count, time } from "./format.js";
import { state } from "./state.js";
import { add } from "./uploads.js";

export function show(root) {
  let cases = null;
  const fetchCases = () => get("/api/cases").then((found) => { cases = found; draw(); }).catch((error) => { if (error.status !== 401) { cases ??= []; draw(error.message); } });

  function draw(wrong = null) {
    const empty = cases !== null && cases.length === 0;
    redraw(root,
      h("h1", {}, empty ? "Begin with a picture or a video" : "Cases"),
      wrong ? h("p", { class: "wrong", role: "alert" }, wrong) : null,
      dropZone((files) => attempt(() => begin(files)), { text: "Drop pictures, videos or a folder here", hint: "A new case is made of them. Nothing leaves this machine, and originals are never changed." }),
      h("div", { class: "row" },
        button("New empty case…", newCase), button("Open a folder of this machine…", openFolder)),
      cases === null ? h("p", { class: "quiet", "aria-busy": "true" }, "Loading the cases…") : empty ? teaching() : [bad(), table()]);
  }

  const bad = () => cases.filter((one) => one.problem).map((one) => h("p", { class: "wrong" }, `The case ${one.id} cannot be opened: ${one.problem}`));

  function table() {
    return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Cases" }, h("table", {},
      h("thead", {}, h("tr", {}, ["Case", "Number", "Operator", state.me.users ? "Owner" : null, "Created", "Files", "Results", "Jobs", ""].filter((head) => head !== null).map((head) => h("th", { scope: "col" }, head || h("span", { class: "hidden" }, "Change"))))),
      h("tbody", {}, cases.filter((one) => !one.problem).map((one) => h("tr", {},
        h("th", { scope: "row" }, link(one.title, `#/case/${encodeURIComponent(one.id)}`), one.opened_from ? h("span", { class: "quiet block" }, `opened from ${one.opened_from}`) : null),
        cell("Number", one.number), cell("Operator", one.operator), state.me.users ? cell("Owner", one.owner) : null,
        cell("Created", time(one.created), "nowrap"), cell("Files", String(one.files), "number"), cell("Results", String(one.results), "number"),
        h("td", { "data-head": "Jobs" }, one.running ? h("span", { class: "running" }, count(one.running, "job")) : "none"),
        h("td", {}, h("div", { class: "pair" }, button("Edit…", () => edit(one), { class: "small", "aria-label": `Edit the case ${one.title}…` }), button("Delete…", () => drop(one), { class: "small", "aria-label": `Delete the case ${one.title}…` }))))))));
  }

  function cell(head, text, kind = "") {
    return h("td", { class: `${kind}${text ? "" : " absent"}`, "data-head": head }, text || "–");
  }

  function edit(one) {
    dialog("Edit the case", h("div", { class: "stack" }, fields(one), h("p", { class: "quiet" }, "The log of the case has what was there before.")),
      { label: "Save", action: async (given) => {
        await put(caseUrl(one.id), Object.fromEntries(given));
        await fetchCases();
      } });
  }

  function drop(one) {
    dialog(`Delete the case “${one.title}”?`, h("div", { class: "stack" },
      h("p", {}, "Its files, results and log are deleted from this machine, and nothing brings them back.", one.opened_from ? ` The folder ${one.opened_from} stays as it is.` : ""),
      h("label", {}, "To confirm, type the title of the case", h("input", { name: "title", required: true, autocomplete: "off" }))),
    { label: "Delete the case", danger: true, action: async (given) => {
      if (given.get("title").trim() !== one.title) throw new Error(`That is not the title: type “${one.title}”.`);
      await remove(caseUrl(one.id), { title: one.title });
      await fetchCases();
    } });
  }

  draw();
  fetchCases();
  return { update(what) { if (what === "case") fetchCases(); } , leave() {} };
}

function teaching() {
  const steps = [
    ["Drop", "a photo, a folder of faces or a video. Every file is hashed as it arrives."],
    ["Enhance", "with one button. In a video, mark the face or plate first: many frames make one picture."],
    ["Look", "before and after, to the pixel, with a map of what is a guess."],
    ["Hand over", "a report, or a package that another analyst can check and make again."],
  ];
  return h("ol", { class: "teaching" }, steps.map(([name, text]) => h("li", {}, h("strong", {}, name), " ", text)));
}

async function begin(files) {
  const first = (files[0].relative ?? files[0].name).split("/")[0].replace(/\.[^.]+$/, "");
  const title = /[\p{L}\p{N}]/u.test(first) ? first.slice(0, 150) : "Case";
  const made = await post("/api/cases", { title: files.length === 1 ? title : `${title} and ${count(files.length - 1, "more file")}` });
  add(made.id, files);
  location.hash = `#/case/${encodeURIComponent(made.id)}/files`;
}

const fields = (one = {}) => [["title", "Title"], ["number", "Case number (optional)"], ["operator", "Operator (optional)"]].map(([name, text]) =>
  h("label", {}, text, h("input", { name, value: one[name] ?? "", required: name === "title", maxlength: "200" })));

function newCase() {
  dialog("New case", h("div", { class: "stack" }, fields()),
  { label: "Make the case", action: async (given) => {
    const made = await call("POST", "/api/cases", Object.fromEntries([...given].filter(([, value]) => value.trim())));
    location.hash = `#/case/${encodeURIComponent(made.id)}/files`;
  } });
}

function openFolder() {
  dialog("Open a folder of this machine", h("div", { class: "stack" },
    h("p", {}, "A folder of pictures or videos, or one that zssr-gan wrote into. It is not changed: results go beside the other cases."),
    h("label", {}, "Folder, with its whole path", h("input", { name: "folder", required: true, placeholder: "/home/me/footage" })),
    command(`cd FOLDER && pwd`, "How to find the path in a terminal")),
  { label: "Open it", action: async (given) => {
    const made = await post("/api/cases/open", { folder: given.get("folder").trim() });
    location.hash = `#/case/${encodeURIComponent(made.id)}/files`;
  } });
}
