// Steps 5 and 6: watch it come, then look at it beside the plain enlargement.
import { caseUrl } from "./api.js";
import { badge, command, h, link, redraw } from "./dom.js";
import { step } from "./case.js";
import { jobCard, previewOf } from "./queue.js";
import { jobsOf, state } from "./state.js";
import { viewer } from "./viewer.js";

export const SHOWN = ["enhance", "fuse", "video", "compare"];

export function show(root, [asked]) {
  let open = null, view = null, watched = asked?.startsWith("job-") ? asked.slice(4) : null;
  const coming = h("div", { class: "coming" }), place = h("div", {}), list = h("ul", { class: "results" }), about = h("div", { class: "about" });
  const title = h("h1", {}, "Look"), empty = h("p", { class: "quiet" });

  const results = () => state.open.results;
  const plainUrl = (one) => caseUrl(state.open.id, "results", one.id, "bicubic.png");
  const viewUrl = (one) => caseUrl(state.open.id, "results", one.id, "view.png");

  /** All that can be seen beside a result: its plain enlargement, and other results of the same area of the same original. */
  function sides(one) {
    const same = results().filter((other) => other.id !== one.id && other.area === one.area);
    return [
      ...(one.bicubic ? [{ key: "plain", title: one.kind === "video" ? `plain enlargement, frame ${one.frame}` : "plain enlargement", url: plainUrl(one), label: null }] : []),
      ...[one, ...same].map((each) => ({ key: each.id, title: name(each), made: made(each), url: viewUrl(each), label: each.label, tag: each.tag })),
    ];
  }

  function choose(id, focus = false) {
    const one = results().find((result) => result.id === id) ?? results()[0];
    open = one?.id ?? null;
    drawComing();
    view?.leave();
    view = null;
    if (!one) return draw();
    view = viewer({ width: one.width, height: one.height, title: name(one), sides: sides(one), result: one.id, evidence: one.evidence ? caseUrl(state.open.id, "results", one.id, "evidence.png") : null });
    const film = one.lossy ? h("figure", { class: "film" }, h("figcaption", { class: "tags" }, h("span", {}, badge(one.label, one.tag), "lossy copy, to be played: it hides detail, and adds errors of its own")), h("video", { controls: true, preload: "metadata", src: caseUrl(state.open.id, "results", one.id, "lossy"), "aria-label": `${name(one)}, a lossy copy` })) : null;
    const still = one.kind === "video" ? h("p", {}, h("strong", {}, `Frame ${one.frame} of the video`), ", without loss", one.bicubic ? ", beside its plain enlargement:" : ". There is no plain enlargement of fields, or of a video that is not in this case.") : null;
    place.replaceChildren(...[film, still, view.node].filter(Boolean));
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
    redraw(list, all.length > 1 ? all.map((one) => h("li", {}, h("a", { href: step("look", one.id), "aria-current": one.id === open ? "true" : null }, h("img", { src: viewUrl(one), alt: "", loading: "lazy" }), h("span", {}, made(one)), badge(one.label, one.tag), h("span", { class: "quiet" }, one.name)))) : null);
    about.hidden = place.hidden = !open;
  }

  const wanted = () => results().find((one) => String(one.job) === watched) ?? null;

  root.replaceChildren(title, coming, empty, h("div", { class: "look-body" }, list, place, about));
  drawComing();
  const job = watched === null ? null : state.jobs.get(watched);
  if (job && job.state !== "done" && !wanted()) draw();
  else choose(watched ? wanted()?.id : asked);

  function move(by) {
    const all = results(), at = all.findIndex((one) => one.id === open);
    if (all.length > 1) location.hash = step("look", all[(at + by + all.length) % all.length].id);
  }

  return {
    go([next]) {
      if (next?.startsWith("job-")) { watched = next.slice(4); drawComing(); const found = wanted(); if (found) choose(found.id); } else choose(next, false);
    },
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
