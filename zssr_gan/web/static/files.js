// Step 1: what was dropped, as it arrived, and what is wrong with which.
import { caseUrl, post, remove } from "./api.js";
import { attempt, button, h, link, redraw } from "./dom.js";
import { dropZone } from "./drop.js";
import { step } from "./case.js";
import { bytes, count, duration, size, time } from "./format.js";
import { chosen, isImage, isVideo, pictures, refresh, state } from "./state.js";
import { add, cancel, leftovers, retry, uploads } from "./uploads.js";

export function show(root) {
  const rising = h("div", { class: "uploads", "aria-live": "polite" }), left = h("div", { class: "uploads" });
  const list = h("div", {});

  function drawUploads() {
    const ours = uploads.filter((one) => one.case === state.open.id);
    const shown = [...ours.filter((one) => one.state !== "waiting"), ...ours.filter((one) => one.state === "waiting").slice(0, 3)];
    const failed = ours.filter((one) => one.state === "failed").length, title = [ours.length > failed ? `Uploading ${count(ours.length - failed, "file")}` : null, failed ? `${count(failed, "upload")} failed` : null];
    redraw(rising, ours.length ? [h("h2", {}, title.filter(Boolean).join(" · ")), shown.map(row), ours.length > shown.length ? h("p", { class: "quiet" }, `and ${count(ours.length - shown.length, "more file")} after these`) : null] : null);
  }

  async function drawLeftovers() {
    const found = await leftovers(state.open.id).catch(() => []);
    redraw(left, found.length ? [h("h2", {}, `${count(found.length, "upload")} not finished`), h("p", { class: "quiet" }, "Drop the same file again, and its upload goes on where it ended."),
      found.map((one) => h("div", { class: "upload" }, h("span", { class: "name" }, one.name), h("span", { class: "quiet nowrap" }, `${bytes(one.offset)} of ${bytes(one.bytes)}`),
        button("Discard", () => attempt(async () => { await remove(caseUrl(state.open.id, "uploads", one.id)); await drawLeftovers(); }), { class: "small", "aria-label": `Discard the upload of ${one.name}` })))] : null);
  }

  function row(one) {
    return h("div", { class: one.state === "failed" ? "upload failed" : "upload" },
      h("span", { class: "name" }, one.name),
      one.state === "failed" ? h("span", { class: "wrong" }, one.error) : [
        h("progress", { max: Math.max(1, one.file.size), value: one.sent, "aria-label": `Upload of ${one.name}` }),
        h("span", { class: "quiet nowrap" }, `${bytes(one.sent)} of ${bytes(one.file.size)}`)],
      one.state === "failed" && !one.hopeless ? button("Go on", () => retry(one), { class: "small", "aria-label": `Go on with ${one.name}` }) : null,
      button(one.state === "failed" ? "Dismiss" : "Cancel", () => attempt(() => cancel(one)), { class: "small", "aria-label": `${one.state === "failed" ? "Dismiss" : "Cancel"} ${one.name}` }));
  }

  function draw() {
    const { originals } = state.open;
    zone.className = originals.length ? "drop compact" : "drop";
    redraw(list, originals.length ? [h("h2", {}, count(originals.length, "file"), h("span", { class: "quiet" }, ` · ${bytes(originals.reduce((sum, one) => sum + one.bytes, 0))}`)), h("ul", { class: "cards originals" }, originals.map(card)), next()] :
      uploads.length ? null : h("p", { class: "quiet" }, "No files yet. Pictures: PNG, JPEG, TIFF, WebP, BMP and more. Videos: AVI, MKV, MP4, MOV and more."));
  }

  const twin = (one) => state.open.originals.find((other) => other.sha256 === one.sha256 && Number(other.id) < Number(one.id));

  function card(one) {
    const good = isImage(one), picked = chosen(state.open.id).pictures;
    return h("li", { class: one.problem && one.kind !== "other" ? "card problem" : "card", "data-key": one.id, "aria-busy": one.pending ? "true" : null },
      one.pending || one.kind === "other" || one.problem ? h("div", { class: "thumb none" }, one.pending ? "reading…" : one.kind === "other" ? "not a picture or video" : "cannot be read") : h("img", { class: "thumb", src: caseUrl(state.open.id, "originals", one.id, "thumb.png"), alt: `Thumbnail of ${one.name}`, loading: "lazy" }),
      h("div", { class: "facts" },
        good ? h("label", { class: "check" }, h("input", { type: "checkbox", checked: picked === null || picked.has(one.id), onchange: (event) => pick(one.id, event.target.checked) }), h("strong", {}, one.name)) : h("strong", {}, one.name),
        h("span", { class: "quiet" }, [one.width ? size(one.width, one.height) : null, one.frames ? count(one.frames, "frame") : null, one.seconds ? duration(one.seconds) : null, bytes(one.bytes)].filter(Boolean).join(" · ")),
        twin(one) ? h("p", { class: "quiet" }, `The same bytes as ${twin(one).name}.`) : null,
        one.problem ? h("p", { class: one.kind === "other" ? "quiet" : "wrong" }, one.problem) : null,
        one.problem && one.kind !== "other" ? button("Look again", () => attempt(async () => { await post(caseUrl(state.open.id, "originals", one.id, "look")); await refresh(); }), { class: "small", "aria-label": `Look at ${one.name} again` }) : null,
        (one.facts ?? []).filter(([label]) => label === "notice").map(([, text]) => h("p", { class: "caution" }, String(text))),
        isVideo(one) ? link("Mark a face or plate", step("mark", one.id), { class: "button small" }) : null,
        h("details", {}, h("summary", {}, "Hash, time, details"),
          h("dl", {}, h("dt", {}, "SHA-256"), h("dd", {}, h("code", {}, one.sha256)), h("dt", {}, "Received"), h("dd", {}, time(one.received)),
            (one.facts ?? []).filter(([label]) => label !== "notice").map(([label, text]) => [h("dt", {}, label), h("dd", {}, String(text))]),
            h("dt", {}, "Original"), h("dd", {}, link("download", caseUrl(state.open.id, "originals", one.id, "file"), { download: "" }))))));
  }

  function pick(id, on) {
    const choice = chosen(state.open.id);
    choice.pictures ??= new Set(state.open.originals.filter(isImage).map((one) => one.id));
    if (on) choice.pictures.add(id);
    else choice.pictures.delete(id);
    choice.source = "pictures";
    draw();
  }

  function next() {
    const all = state.open.originals.filter(isImage), picked = pictures(state.open), videos = state.open.originals.filter(isVideo);
    if (!all.length && !videos.length) return null;
    return h("div", { class: "next" },
      all.length > 1 ? h("span", { class: "quiet" }, `${picked.length} of ${count(all.length, "picture")} chosen`) : null,
      all.length > 1 ? button(picked.length === all.length ? "Choose none" : "Choose all", () => { chosen(state.open.id).pictures = picked.length === all.length ? new Set() : null; draw(); }, { class: "small" }) : null,
      h("span", { class: "grow" }),
      all.length ? link("What did the camera do?", step("camera"), { class: "button" }) : null,
      videos.length ? link("Mark a face or plate", step("mark", videos[0].id), { class: all.length ? "button" : "button primary" }) : null,
      picked.length ? link(picked.length === 1 ? "Enhance this picture" : `Enhance ${count(picked.length, "picture")}`, step("enhance"), { class: "button primary", onclick: () => { chosen(state.open.id).source = "pictures"; } }) : null);
  }

  const zone = dropZone((files) => add(state.open.id, files), { text: "Drop pictures, videos or a folder here" });
  root.append(h("h1", { class: "hidden" }, `Files of ${state.open.title}`), zone, rising, left, list);
  drawUploads();
  drawLeftovers();
  draw();
  return {
    update(what) {
      if (what === "upload") drawUploads();
      if (what === "case") draw();
      if (what === "case") drawLeftovers();
    },
  };
}
