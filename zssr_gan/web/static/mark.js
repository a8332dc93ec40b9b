// Step 3: mark a face or a plate in a video, follow it, and mend what was followed.
import { caseUrl, get, post, put } from "./api.js";
import { attempt, button, dialog, h, link, notice, redraw } from "./dom.js";
import { step } from "./case.js";
import { numberField } from "./fields.js";
import { count, duration, seconds, time } from "./format.js";
import { jobCard } from "./queue.js";
import { rectangle, region, stage } from "./stage.js";
import { chosen, isVideo, jobsOf, keep, refresh, state } from "./state.js";

const SMALLEST = 12; // pixels a side that can be followed, as the server has it

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

export function show(root, [asked]) {
  const choice = chosen(state.open.id);
  const videos = () => state.open.originals.filter(isVideo);
  if (asked) choice.video = asked;
  let video = videos().find((one) => one.id === choice.video) ?? videos()[0];
  if (!video) {
    redraw(root, h("h1", {}, "Mark a face or a plate"), h("p", {}, "This case has no video. ", link("Drop one", step("files")), "."));
    return {};
  }
  let frames = [], all = false, at = 0, track = null, edits = new Map(), wrong = null, gone = false, tracksSeen = new Set(state.open.tracks.map((one) => one.id));
  const times = h("output", { "aria-live": "polite" }, "1 ×");
  const shown = (factor) => { times.textContent = `${Number(factor.toFixed(1))} ×`; };
  const picture = stage(moved, shown);
  const scrub = h("input", { type: "range", min: "0", max: "0", step: "1", value: "0", class: "scrub", "aria-label": "Frame", oninput: () => go(Number(scrub.value)) });
  const strip = h("div", { class: "strip", role: "group", "aria-label": "Frames of the track" });
  const told = h("p", { class: "frame-facts" }), tools = h("div", { class: "tools" }), list = h("div", { class: "track-list" });

  const box = ["Left", "Top", "Width", "Height"].map((name) => numberField(name.toLowerCase(), name, { unit: "px", min: 0, max: 0, onchange: typed }));
  const followIt = button("Follow it through the video", () => follow(), { class: "primary" }), again = button("Draw it again", () => { picture.set({ points: [] }); drawTools(); }, { class: "small" });

  const zoom = (by) => shown(picture.zoom(by));

  const frameUrl = (index) => caseUrl(state.open.id, "originals", video.id, "frames", `${index}.png`);

  async function load() {
    wrong = null;
    frames = [];
    all = false;
    go(0);
    const of = video;
    try {
      for (let found; of === video && !gone && !found?.complete; ) { // a long video's frames come in parts
        if (found) await new Promise((resolve) => setTimeout(resolve, 700));
        found = await get(caseUrl(state.open.id, "originals", of.id, "frames"));
        const first = frames.length === 0;
        frames = found.frames;
        all = found.complete !== false;
        scrub.max = Math.max(0, frames.length - 1);
        if (!found.complete && first && frames.length) { go(at); draw(); }
      }
    } catch (error) {
      wrong = error.message;
    }
    if (of !== video || gone) return;
    const own = state.open.tracks.filter((one) => one.original === video.id);
    if (choice.track && own.some((one) => one.id === choice.track)) await openTrack(choice.track);
    go(track ? track.reference : Math.min(at, Math.max(0, frames.length - 1)));
    draw();
  }

  function go(index) {
    at = Math.min(Math.max(0, index), Math.max(0, frames.length - 1));
    scrub.value = at;
    const frame = frames[at];
    const moment = frame ? seconds(frame.pts, frame.time_base) : null;
    const text = frame ? `Frame ${at} (of 0 to ${frames.length - 1}${all ? "" : " or more: still reading"})${moment === null ? ", time not known" : `, ${moment.toFixed(3)} s`}` : "Reading the frames…";
    scrub.setAttribute("aria-valuetext", text);
    told.setAttribute("aria-busy", String(!all && !wrong));
    told.replaceChildren(...[wrong ? h("span", { class: "wrong" }, wrong) : null, h("strong", {}, wrong ? "" : text), frame?.type ? ` · ${frame.type} frame${frame.key ? " (key)" : ""}` : "", frame?.repeat ? " · repeats the one before" : "", status()].filter(Boolean));
    if (frames.length) picture.show(frameUrl(at), `${video.name}, ${text}`, video.width, video.height);
    for (const next of [at + 1, at - 1]) if (next >= 0 && next < frames.length) new Image().src = frameUrl(next);
    if (track) {
      const here = frameOfTrack();
      picture.set({ mode: "fixed", points: here ? here.corners : [], style: here?.status === "tracked" ? "tracked" : "unused" });
      for (const one of strip.children) one.setAttribute("aria-current", String(Number(one.dataset.index) === at));
      drawTools();
    }
  }

  function frameOfTrack(index = at) {
    return edits.get(index) ?? found(index) ?? null;
  }

  const found = (index) => track?.frames.find((one) => one.index === index);

  function status() {
    if (!track) return "";
    const here = frameOfTrack();
    return here ? ` · ${here.status === "tracked" ? "used" : `not used: ${here.status}`}${here.edited ? " · corners set by hand" : ""}` : " · not in the track";
  }

  function moved(points) {
    if (track) {
      edit({ ...frameOfTrack(), corners: points, edited: true });
      strip.querySelector(`[data-index="${at}"]`)?.classList.toggle("edited", edits.has(at));
    }
    drawTools();
  }

  function leaveOut() {
    const here = frameOfTrack();
    if (!here) return;
    const before = found(at);
    edit({ ...here, status: here.status !== "tracked" ? "tracked" : before.status === "tracked" ? "left out by hand" : before.status });
    drawStrip();
    go(at);
  }

  const alike = (one, other) => one.status === other.status && same(one.corners, other.corners);

  /** Note how this frame is to be; what is as the file has it is no edit. */
  function edit(here) {
    if (alike(here, found(at))) edits.delete(at);
    else edits.set(at, here);
  }

  let saving = false;
  const save = () => attempt(async () => {
    const from = track, of = edits, sent = new Map(of);
    saving = true; // its track is no news
    const before = (index) => from.frames.find((one) => one.index === index);
    const body = { frames: [...sent.values()].map(({ index, corners, status: state_ }) => ({ index, status: state_, ...(same(corners, before(index).corners) ? {} : { corners }) })) };
    const made = await put(caseUrl(state.open.id, "tracks", from.id), body).finally(() => { saving = false; });
    const wanted = (index) => of.get(index) ?? before(index), saved = (index) => sent.get(index) ?? before(index);
    const later = [...new Set([...sent.keys(), ...of.keys()])].filter((index) => !alike(wanted(index), saved(index))); // changed while it was saved
    choice.edits.set(made.id, new Map(later.map((index) => [index, wanted(index)])));
    of.clear();
    tracksSeen.add(made.id);
    await refresh(); // the next step offers it at once
    notice("Saved as a new track; the one before stays as it was.");
    if (track === from) await openTrack(made.id); // else something else was opened or is marked meanwhile
    draw();
  });

  async function openTrack(id, wanted = () => true) {
    const opened = await get(caseUrl(state.open.id, "tracks", id));
    if (!wanted()) return;
    track = opened;
    track.id = id;
    choice.track = id;
    edits = choice.edits.get(id) ?? new Map(); // they wait while other steps are looked at
    choice.edits.set(id, edits);
    picture.set({ mode: "fixed", points: [] });
  }

  function markNew() {
    track = null;
    choice.track = null;
    edits = new Map();
    picture.set({ mode: "rectangle", points: [], style: "marked" });
    go(at);
    draw();
  }

  let followed = null; // what was marked when it was to be followed
  const follow = () => attempt(async () => {
    const { mode, points } = picture.shape;
    followed = points;
    const options = mode === "corners" ? { frame: at, corners: points.map((point) => point.map((value) => Math.round(value * 10) / 10)) } : { frame: at, region: region(points, video.width, video.height) };
    keep(await post(caseUrl(state.open.id, "jobs"), { kind: "track", originals: [video.id], options }));
    draw();
  });

  function drawTools() {
    const { mode, points } = picture.shape;
    if (track) return redraw(tools, mending());
    const shown = points.length === 4 && mode === "rectangle" ? region(points, video.width, video.height) : ["", "", "", ""];
    box.forEach((field, index) => field.set(shown[index]));
    ready();
    redraw(tools, () => [
      h("h2", {}, "Mark it in one frame"),
      h("p", { class: "quiet" }, mode === "rectangle" ? "Go to the frame that shows it best, and draw a rectangle around the face: tight, without the background." : "Go to the frame that shows it best, and click the four corners of the plate."),
      h("div", { class: "row", role: "radiogroup", "aria-label": "Shape" }, [["rectangle", "Rectangle (face)"], ["corners", "Four corners (plate)"]].map(([name, text]) => h("label", { class: "check" }, h("input", { type: "radio", name: "shape", value: name, checked: mode === name, onchange: () => { picture.set({ mode: name, points: [] }); drawTools(); } }), text))),
      mode === "rectangle" ? h("div", { class: "numbers" }, box.map((field) => field.node)) : h("p", { class: "quiet" }, `${points.length} of 4 corners`),
      again,
      mode === "corners" && points.length < 4 ? button("Put four corners in the middle", middle, { class: "small" }) : null,
      followIt]);
  }

  /** Whether what is marked can be followed; a side that is too small or goes beyond the frame is said at its number. */
  function ready() {
    const { mode, points } = picture.shape, [left, top] = box.map((field) => field.value() ?? 0);
    [[0, Math.max(0, video.width - SMALLEST)], [0, Math.max(0, video.height - SMALLEST)], [SMALLEST, video.width - left], [SMALLEST, video.height - top]].forEach((limits, index) => box[index].limits(...limits));
    again.disabled = !points.length;
    followIt.disabled = points.length < 4 || (mode === "rectangle" && !box.every((field) => field.valid()));
  }

  function typed() {
    ready();
    if (!box.every((field) => field.valid())) return;
    picture.set({ points: rectangle(box.map((field) => field.value())) });
    ready();
  }

  function middle() { // for the keyboard: the corners are then moved by arrow keys
    const { width, height } = video;
    picture.set({ points: rectangle([width * 0.35, height * 0.4, width * 0.3, height * 0.2]) });
    drawTools();
  }

  function mending() {
    const here = frameOfTrack(), used = track.frames.filter((one) => frameOfTrack(one.index).status === "tracked").length;
    return [
      h("h2", {}, name()),
      h("p", {}, `${used} of ${count(track.frames.length, "frame")} used. `, h("span", { class: "quiet" }, `Backwards it ends because ${track.ended?.[0] ?? "it was stopped"}; forwards because ${track.ended?.[1] ?? "it was stopped"}.`)),
      h("p", { class: "quiet" }, "Go through the frames. Drag a corner that is off; leave out frames that show something else."),
      here ? h("label", { class: "check" }, h("input", { type: "checkbox", checked: here.status === "tracked", onchange: leaveOut }), `Use frame ${at} (X)`) : h("p", { class: "quiet" }, "This frame is not in the track."),
      here?.edited ? h("p", { class: "quiet" }, "Corners set by hand: no standard error is known of them.") : here?.error_px ? h("p", { class: "quiet" }, `standard error ${here.error_px.toFixed(3)} px, correlation ${(here.correlation ?? 1).toFixed(3)}`) : null,
      edits.size ? h("div", { class: "row" }, button(`Save ${count(edits.size, "changed frame")}`, save, { class: "primary" }), button("Undo all", () => { edits.clear(); drawStrip(); go(at); })) : null,
      edits.size ? null : link("Fuse these frames into one picture", step("enhance"), { class: "button primary", onclick: () => { choice.source = `track ${track.id}`; choice.method = null; } }),
      h("div", { class: "row" }, button("Name it…", rename, { class: "small" }), button("Mark something else", markNew, { class: "small" })),
    ];
  }

  const name = () => state.open.tracks.find((one) => one.id === track.id)?.name ?? track.name;

  function rename() {
    const { id } = track;
    dialog("Name the track", h("label", {}, "Who or what it shows", h("input", { name: "name", value: name(), required: true, maxlength: "80" })), { label: "Save", action: async (given) => {
      await put(caseUrl(state.open.id, "tracks", id, "name"), { name: given.get("name") });
      await refresh();
      draw();
    } });
  }

  function drawStrip() {
    redraw(strip, track ? track.frames.map(({ index }) => {
      const here = frameOfTrack(index), state_ = edits.has(index) ? "edited" : here.status === "tracked" ? "tracked" : "unused";
      return h("button", { type: "button", class: `tick ${state_}${here.status === "tracked" ? "" : " unused"}`, "data-index": String(index), "aria-current": String(index === at), "aria-label": `Frame ${index}: ${here.status === "tracked" ? "used" : here.status}${edits.has(index) ? ", changed" : ""}`, title: `Frame ${index}: ${here.status}`, tabindex: index === at ? "0" : "-1", onclick: () => go(index) });
    }) : null);
  }

  function drawList() {
    const own = state.open.tracks.filter((one) => one.original === video.id);
    const jobs = jobsOf(state.open.id).filter((job) => job.kind === "track" && ["queued", "running", "failed"].includes(job.state)).slice(-2);
    redraw(list, jobs.map((job) => jobCard(job, { preview: true })),
      own.length ? [h("h2", {}, "Tracks"), h("ul", { class: "plain" }, own.map((one) => h("li", {}, button([crop(one), h("span", {}, h("strong", {}, one.name), h("span", { class: "quiet block" }, `${one.region[2]} × ${one.region[3]} px of frame ${one.reference} · ${one.tracked} used, ${one.lost} left out${one.edited.length ? `, ${one.edited.length} set by hand` : ""}`))], () => attempt(async () => { await openTrack(one.id); go(track.reference); draw(); }), { class: "pick", "aria-pressed": String(track?.id === one.id) }))))] : null);
  }

  /** The region of a track in the frame in which it was marked. */
  function crop(one) {
    const [left, top, width, height] = one.region, scale = 48 / Math.max(width, height);
    return h("span", { class: "crop", "aria-hidden": "true", style: { "background-image": `url("${frameUrl(one.reference)}")`, "background-size": `${video.width * scale}px ${video.height * scale}px`, "background-position": `${-left * scale}px ${-top * scale}px`, width: `${width * scale}px`, height: `${height * scale}px` } });
  }

  function draw() {
    drawTools();
    drawStrip();
    drawList();
  }

  root.replaceChildren(h("h1", {}, "Mark a face or a plate"),
    videos().length > 1 ? h("label", { class: "inline" }, "Video ", h("select", { value: video.id, onchange: (event) => { video = videos().find((one) => one.id === event.target.value); choice.video = video.id; track = null; at = 0; picture.set({ mode: "rectangle", points: [], style: "marked" }); load(); } }, videos().map((one) => h("option", { value: one.id }, one.name)))) : h("p", { class: "quiet" }, `${video.name} · ${video.width} × ${video.height} px · received ${time(video.received)}${video.seconds ? ` · ${duration(video.seconds)}` : ""}`),
    h("div", { class: "laid" },
      h("div", { class: "film" }, h("div", { class: "film-pane", tabindex: "0", role: "region", "aria-label": "The frame, enlarged" }, picture.node),
        h("div", { class: "row scrubber" }, button("◀", () => go(at - 1), { "aria-label": "Frame before" }), scrub, button("▶", () => go(at + 1), { "aria-label": "Next frame" }), button("−", () => zoom(0.5), { "aria-label": "Zoom out", title: "Key −" }), times, button("+", () => zoom(2), { "aria-label": "Zoom in", title: "Key +" })), told, strip),
      h("div", { class: "side" }, tools, list)));
  load();

  return {
    leave() {
      gone = true;
      picture.leave();
    },
    key(event) {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (event.key.toLowerCase() === "x" && track) leaveOut();
      else if (event.key === "+" || event.key === "=") zoom(2);
      else if (event.key === "-" || event.key === "−") zoom(0.5);
      else if (event.key === "Home") go(0);
      else if (event.key === "End") go(frames.length - 1);
      else if (by && !event.target.closest?.(".handle-corner")) go(at + by * (event.shiftKey ? 10 : 1));
      else return;
      event.preventDefault();
    },
    update(what, facts) {
      if (what === "job" && facts?.kind === "track") drawList();
      if (what !== "case") return;
      const fresh = state.open.tracks.find((one) => !tracksSeen.has(one.id) && one.original === video.id);
      tracksSeen = new Set(state.open.tracks.map((one) => one.id));
      const free = () => !track && (!picture.shape.points.length || picture.shape.points === followed);
      if (fresh && !saving && free()) attempt(async () => { await openTrack(fresh.id, free); if (track) go(track.reference); draw(); });
      else drawList();
    },
  };
}
