// Steps 5 and 6: watch it come, then look at it beside the plain enlargement.
import { caseUrl, get } from "./api.js";
import { badge, button, command, h, link, redraw } from "./dom.js";
import { step } from "./case.js";
import { numberField } from "./fields.js";
import { jobCard, previewOf } from "./queue.js";
import { jobsOf, state } from "./state.js";
import { viewer } from "./viewer.js";

export const SHOWN = ["enhance", "fuse", "video", "compare"];

export function show(root, [asked]) {
  let open = null, view = null, frame = { number: 0, of: [] }, watched = null;
  const coming = h("div", { class: "coming" }), place = h("div", {}), list = h("ul", { class: "results" }), about = h("div", { class: "about" });
  const title = h("h1", {}, "Look"), empty = h("p", { class: "quiet" });

  const results = () => state.open.results;
  const url = (one, name) => caseUrl(state.open.id, "results", one.id, name);
  const ofFrame = (one) => (one.kind === "video" ? `?frame=${frame.number}` : "");

  /** All that can be seen beside a result: its plain enlargement, and other results of the same area of the same original. */
  function sides(one) {
    const same = results().filter((other) => other.id !== one.id && other.area === one.area && (other.frames === one.frames || frame.number === 0));
    return [
      ...(one.bicubic ? [{ key: "plain", title: one.kind === "video" ? `plain enlargement, frame ${shownFrame(one)}` : "plain enlargement", url: url(one, "bicubic.png") + ofFrame(one), label: null }] : []),
      ...[one, ...same].map((each) => ({ key: each.id, title: name(each), made: made(each), url: url(each, "view.png") + ofFrame(each), label: each.label, tag: each.tag })),
    ];
  }

  /** Which frame of the original is shown. */
  function shownFrame(one) {
    return frame.of[frame.number] ?? one.frame + frame.number;
  }

  /** The frame of a video that is looked at: the first, the middle, the last, or any by its number. */
  function frames(one) {
    const last = one.frames - 1, which = h("span", { class: "quiet", role: "status" });
    const field = numberField("frame", "Frame", { unit: "of the result", min: 0, max: last, value: "0", onchange: () => { if (field.valid()) go(field.value()); } });
    function tell() {
      which.textContent = `Frame ${shownFrame(one)} of the video, without loss${one.bicubic ? ", beside its plain enlargement" : ". There is no plain enlargement of fields, or of a video that is not in this case"}.`;
      view.sides(sides(one));
    }
    function go(number) {
      frame.number = number;
      field.set(number);
      tell();
    }
    const node = h("div", { class: "row frame-choice" }, field.node, [["First", 0], ["Middle", Math.floor(last / 2)], ["Last", last]].map(([text, number]) => button(text, () => go(number), { class: "small", "aria-label": `${text} frame` })), which);
    get(url(one, "frames")).then((found) => { if (open === one.id) { frame.of = found; tell(); } }, () => {}); // without it frames are counted from the first
    return { node, go };
  }

  function choose(id, focus = false) {
    const one = results().find((result) => result.id === id) ?? results()[0];
    open = one?.id ?? null;
    drawComing();
    view?.leave();
    view = null;
    frame = { number: 0, of: [] };
    if (!one) return draw();
    view = viewer({ width: one.width, height: one.height, title: name(one), sides: sides(one), result: one.id, evidence: one.evidence ? caseUrl(state.open.id, "results", one.id, "evidence.png") : null });
    const film = one.lossy ? h("figure", { class: "film" }, h("figcaption", { class: "tags" }, h("span", {}, badge(one.label, one.tag), "lossy copy, to be played: it hides detail, and adds errors of its own")), h("video", { controls: true, preload: "metadata", src: caseUrl(state.open.id, "results", one.id, "lossy"), "aria-label": `${name(one)}, a lossy copy` })) : null;
    const choice = one.kind === "video" ? frames(one) : null;
    choice?.go(0);
    place.replaceChildren(...[film, choice?.node, view.node].filter(Boolean));
    drawAbout(one);
    draw();
    view.fit(); // when it is seen, and has a width
    if (focus) view.node.scrollIntoView({ block: "start" });
  }

  function drawAbout(one) {
    redraw(about,
      h("p", {}, badge(one.label, one.tag), " ", one.means),
      h("p", { class: "caution" }, h("strong", {}, "An investigative lead, not an identification.")),
      one.made ? h("p", {}, h("strong", {}, "Made of: "), one.made) : null,
      h("p", {}, h("strong", {}, "Assumed: "), one.assumed || "nothing beyond the input"),
      (one.notices ?? []).filter((text) => !one.assumed.includes(text)).map((text) => h("p", { class: "caution" }, text)),
      one.command ? command(one.command) : null,
      h("div", { class: "row" }, link("Download the result", caseUrl(state.open.id, "results", one.id, "file"), { class: "button small", download: "" }), link("Record (JSON)", caseUrl(state.open.id, "results", one.id, "record.json"), { class: "button small", download: "" })),
      h("div", { class: "row" }, link("Try another method", step("enhance"), { class: "button" }), link("Hand it over", step("handover"), { class: "button primary" })));
  }

  function drawComing() {
    const jobs = jobsOf(state.open.id).filter((job) => SHOWN.includes(job.kind));
    const live = open !== null ? [] : jobs.filter((job) => job.state === "running" || job.state === "queued" || (job.id === watched && job.state !== "done"));
    for (const old of [...coming.children]) if (!live.some((job) => job.id === old.dataset.job)) old.remove();
    for (const job of live) {
      let box = [...coming.children].find((one) => one.dataset.job === job.id);
      if (!box) coming.append((box = h("section", { class: "watch", "data-job": job.id, "aria-label": `Preview of ${job.title}` }, h("div", {}), h("div", { class: "watch-picture" }))));
      redraw(box.firstChild, jobCard(job));
      preview(box.lastChild, job);
    }
  }

  function preview(box, job) {
    const image = previewOf(job);
    if (image && !box.firstChild) box.append(image, h("span", { class: "quiet" }, "Preview: not the result yet"));
  }

  function draw() {
    const all = results(), at = all.findIndex((one) => one.id === open);
    title.replaceChildren(...(open ? [(all[at] ?? all[0]).name, h("span", { class: "quiet block" }, made(all[at] ?? all[0]))] : ["Look"]));
    empty.hidden = all.length > 0 || coming.children.length > 0;
    redraw(empty, "No result yet. ", link("Enhance a picture", step("enhance")), ", and it appears here.");
    redraw(list, all.length > 1 ? all.map((one) => h("li", {}, h("a", { href: step("look", one.id), "aria-current": one.id === open ? "true" : null }, h("img", { src: url(one, "view.png"), alt: "", loading: "lazy" }), h("span", {}, made(one)), badge(one.label, one.tag), h("span", { class: "quiet" }, one.name)))) : null);
    about.hidden = place.hidden = !open;
  }

  const wanted = () => results().find((one) => String(one.job) === watched) ?? null;

  /** Go to a job that is watched until its result comes, or to a result: then no job's takes its place. */
  function arrive(next) {
    watched = next?.startsWith("job-") ? next.slice(4) : null;
    if (watched === null) return choose(next);
    const job = state.jobs.get(watched), found = wanted();
    if (found || !job) return choose(found?.id);
    if (job.state === "done") return open === null ? choose() : undefined; // its result is on the way here
    view?.leave();
    open = view = null;
    drawComing();
    draw();
  }

  root.replaceChildren(title, coming, empty, h("div", { class: "look-body" }, list, place, about));
  arrive(asked);

  function move(by) {
    const all = results(), at = all.findIndex((one) => one.id === open);
    if (all.length > 1) location.hash = step("look", all[(at + by + all.length) % all.length].id);
  }

  return {
    go([next]) { arrive(next); },
    key(event) {
      const pane = event.target.closest?.(".pane"), scrolls = pane && pane.scrollWidth > pane.clientWidth;
      if ((event.key === "ArrowLeft" || event.key === "ArrowRight") && scrolls) return; // the browser moves the picture
      if (event.key === "ArrowLeft" || event.key === "ArrowRight") move(event.key === "ArrowLeft" ? -1 : 1);
      else view?.key(event);
    },
    leave() { view?.leave(); },
    update(what, facts) {
      if (what === "job" && facts?.case !== state.open.id) return;
      if (what === "job" || what === "case") drawComing();
      if (what !== "case") return;
      const come = watched ? wanted() : null;
      if (come && open !== come.id) { watched = null; choose(come.id); }
      else if (open === null && results().length && !coming.children.length) choose(results()[0].id);
      else if (open !== null && !results().some((one) => one.id === open)) choose(null);
      else { view?.sides(open ? sides(results().find((one) => one.id === open)) : []); draw(); }
    },
  };
}

/** What tells results of one picture apart: the job, the method, what was taken for the camera's doing. */
function made(one) {
  return [one.job ? `job ${one.job}` : null, one.method, one.name.includes(`x${one.scale}`) ? null : `× ${one.scale}`, one.camera].filter(Boolean).join(" · ");
}

function name(one) {
  return `${made(one)} · ${one.name}`;
}
