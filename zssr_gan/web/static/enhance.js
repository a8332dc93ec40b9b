// Step 4: what is enhanced, and how; one button starts it.
import { caseUrl, post } from "./api.js";
import { attempt, badge, button, command, h, link, redraw } from "./dom.js";
import { step } from "./case.js";
import { count, duration } from "./format.js";
import { chosen, isVideo, jobsOf, keep, pictures, state } from "./state.js";

const ASK_AGAIN = 10_000; // milliseconds
const BICUBIC = ["bicubic", "no blur, no noise (bicubic)"];

/** Whether an estimate was chosen that is not there, since its job failed or was stopped. */
function isGone(camera) {
  if (["auto", BICUBIC[0]].includes(camera) || state.open.estimates.some((one) => one.id === camera)) return false;
  return !jobsOf(state.open.id).some((job) => job.id === camera && ["queued", "running", "done"].includes(job.state));
}

/** Frames and length of a video, as far as they are known. */
function length(video) {
  const known = [video.frames ? count(video.frames, "frame") : null, video.seconds ? duration(video.seconds) : null].filter(Boolean);
  return known.length ? ` (${known.join(", ")})` : "";
}

/** What can be enhanced: the chosen pictures, every track, every video. */
function sources() {
  const { open } = state, found = [], picked = pictures(open);
  if (picked.length) found.push({ id: "pictures", kind: picked.length === 1 ? "image" : "folder", title: picked.length === 1 ? picked[0].name : count(picked.length, "picture"), text: "as chosen under Files", body: { kind: "enhance", originals: picked.map((one) => one.id) } });
  const alike = new Set(picked.map((one) => `${one.width} ${one.height}`)).size === 1;
  if (picked.length > 1 && alike) found.push({ id: "burst", kind: "track", title: `${count(picked.length, "picture")} as one burst`, text: "one scene, cut alike: fused into one picture", body: { kind: "fuse", originals: picked.map((one) => one.id), options: { reference: picked[0].id } } });
  for (const track of open.tracks) found.push({ id: `track ${track.id}`, kind: "track", title: track.name, text: `${count(track.tracked, "frame")} fused into one picture`, body: { kind: "fuse", originals: [track.original], options: { track: track.id } } });
  for (const video of open.originals.filter(isVideo)) found.push({ id: `video ${video.id}`, kind: "video", title: video.name, text: `every frame${length(video)}: a video out of a video`, body: { kind: "video", originals: [video.id] } });
  return found;
}

export function show(root) {
  const choice = chosen(state.open.id);
  let plans = new Map(), current = new Set(), wanted = 0, known = [...state.open.estimates, ...state.open.tracks].map((one) => one.id).join();

  const source = () => { const all = sources(); return all.find((one) => one.id === choice.source) ?? all[0]; };
  const methods = (from) => state.methods.filter((one) => one.kinds.includes(from.kind));
  const method = (from) => methods(from).find((one) => one.id === choice.method) ?? methods(from).find((one) => one.default) ?? methods(from)[0] ?? null;

  /** The job that still makes the estimate which was chosen. */
  const making = (from) => (from.body.kind === "enhance" && !state.open.estimates.some((one) => one.id === choice.camera) ? jobsOf(state.open.id).find((job) => job.id === choice.camera && ["queued", "running"].includes(job.state)) ?? null : null);

  function body(from, way) {
    const options = { ...from.body.options };
    if (way) options.method = way.id;
    options.scale = choice.scale;
    if (from.body.kind === "enhance") options.degradation = choice.camera;
    return { kind: from.body.kind, originals: from.body.originals, options };
  }

  async function plan() { // each method's time on this machine; nothing is run. The plans before stay, pale, until the new ones have come
    const from = source(), turn = (wanted += 1);
    if (!from) return draw();
    if (isGone(choice.camera)) choice.camera = "auto";
    current = new Set();
    draw();
    if (making(from)) return; // and comes again with the estimate
    for (const way of [method(from), ...methods(from).filter((one) => one !== method(from))]) {
      const found = await post(caseUrl(state.open.id, "plan"), body(from, way)).catch((error) => ({ error: error.message }));
      if (turn !== wanted) return;
      plans.set(way?.id ?? null, found);
      current.add(way?.id ?? null);
      draw();
    }
    timeAgain(turn);
  }

  /** Ask again for times that are being measured, until all are there or something else is planned. */
  async function timeAgain(turn) {
    const from = source(), missing = methods(from).filter((one) => plans.get(one.id)?.untimed);
    if (!missing.length) return;
    await new Promise((resolve) => setTimeout(resolve, ASK_AGAIN));
    for (const way of missing) {
      if (turn !== wanted) return;
      const found = await post(caseUrl(state.open.id, "plan"), body(from, way)).catch(() => null);
      if (turn !== wanted || !found) continue;
      plans.set(way.id, found);
      draw();
    }
    if (turn === wanted) timeAgain(turn);
  }

  function draw() {
    const all = sources(), from = source();
    if (!from) {
      redraw(root, h("h1", {}, "Enhance"), h("p", {}, "There is nothing to enhance yet. ", link("Drop a picture or a video", step("files")), state.open.originals.some(isVideo) ? [", or ", link("mark a face or plate", step("mark"))] : null, "."));
      return;
    }
    const way = method(from), waits = making(from), found = waits ? null : plans.get(way?.id ?? null);
    redraw(root, h("h1", {}, "Enhance"),
      h("fieldset", { class: "options" }, h("legend", {}, "What"), all.map((one) => h("div", { class: "option" }, h("label", { class: "check" },
        h("input", { type: "radio", name: "source", value: one.id, checked: one === from || one.id === from.id, onchange: () => { choice.source = one.id; plan(); } }),
        h("span", {}, h("strong", {}, one.title), " ", h("span", { class: "quiet" }, one.text)))))),
      methods(from).length ? h("fieldset", { class: "options methods" }, h("legend", {}, "How"), methods(from).map((one) => card(one, way))) : null,
      h("div", { class: "row fields" },
        h("label", {}, "Scale", h("select", { name: "scale", value: String(choice.scale), onchange: (event) => { choice.scale = Number(event.target.value); plan(); } }, [2, 3, 4].map((scale) => h("option", { value: String(scale) }, `× ${scale}`)))),
        from.body.kind === "enhance" && h("label", {}, "Camera", h("select", { name: "degradation", value: choice.camera, onchange: (event) => { choice.camera = event.target.value; plan(); } }, [["auto", from.body.originals.length === 1 ? "as this picture shows: noise, JPEG; no blur" : "found by the run itself"], BICUBIC, ...state.open.estimates.map((one) => [one.id, one.name]), ...(waits ? [[waits.id, `Estimate ${waits.id}, being made`]] : [])].map(([value, text]) => h("option", { value }, text))))),
      found?.error ? h("p", { class: "wrong", role: "alert" }, found.error) : null,
      waits ? h("p", { class: "caution", role: "status" }, `The camera that was chosen is being made (job ${waits.id}: ${waits.title}). This goes on when it is there; or choose another camera.`) : null,
      h("div", { class: "plan", "aria-busy": String(!waits && !current.has(way?.id ?? null)) },
        found?.sentence ? h("p", {}, found.sentence) : null,
        (found?.notices ?? []).map((one) => h("p", { class: "caution" }, one)),
        found?.command ? command(found.command) : found?.error || waits ? null : h("p", { class: "quiet" }, "Looking at the files…")),
      h("div", { class: "next" },
        h("span", { class: "grow" }, found?.label ? ["The result is ", badge(found.label, found.tag), h("span", { class: "quiet" }, time(found))] : null),
        button(from.body.kind === "fuse" ? "Start fusing" : "Start enhancing", start, { class: "primary", disabled: Boolean(found?.error || waits) })));
  }

  const time = (found) => ` · ${found.untimed ?? `about ${duration(found.seconds)} on this machine`}`;

  function card(one, way) {
    const found = plans.get(one.id);
    return h("label", { class: one === way ? "method chosen" : "method" },
      h("input", { type: "radio", name: "method", value: one.id, checked: one === way, onchange: () => { choice.method = one.id; draw(); if (!current.has(one.id)) plan(); } }),
      h("span", { class: "block" }, h("strong", {}, one.title), badge(found?.label ?? one.label, found?.tag), one.default ? h("span", { class: "quiet" }, " usual choice") : null),
      h("span", { class: "block" }, one.text),
      h("span", { class: "block quiet" }, one.may),
      h("span", { class: "block time", "aria-busy": String(!making(source()) && !current.has(one.id)) }, found === undefined ? "…" : found.error ? "not for these files" : time(found).replace(" · ", "")));
  }

  const start = () => attempt(async () => {
    const from = source(), job = keep(await post(caseUrl(state.open.id, "jobs"), body(from, method(from))));
    state.watched = job.id;
    location.hash = step("look", `job-${job.id}`);
  });

  plan();
  return {
    leave() { wanted += 1; }, // plans that come are not shown any more
    update(what, facts) {
      const now = [...state.open.estimates, ...state.open.tracks].map((one) => one.id).join();
      if (what === "case" && now !== known) plan(); // what could not be planned may be possible now
      else if (what === "case" || (what === "job" && String(facts?.id) === choice.camera)) draw();
      known = now;
    },
  };
}
