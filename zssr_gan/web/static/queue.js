// Step 5: what runs, what waits, how long it takes; stop, go on, first.
import { post } from "./api.js";
import { attempt, button, command, h, link, redraw } from "./dom.js";
import { count, duration, stage, time } from "./format.js";
import { changed, keep, listen, state } from "./state.js";

const WORDS = { queued: "waiting", running: "running", done: "done", failed: "failed", stopped: "stopped" };

export const jobUrl = (job, act) => `/api/jobs/${encodeURIComponent(job.id)}/${act}`;

const previewUrl = (job) => (job.progress?.preview ? `${jobUrl(job, "preview.png")}?v=${job.progress.preview}` : null);
const previews = new Map(); // the element of a job's preview: the picture before stays until the next has come

/** The picture in work, as it is by now; null before there is one. */
export function previewOf(job) {
  const url = previewUrl(job), image = previews.get(job.id) ?? (url ? h("img", { class: "preview" }) : null);
  if (!image) return null;
  previews.set(job.id, image);
  image.alt = `Preview of ${job.title}: ${stage(job.progress) || "not the result"}`;
  if (url && image.dataset.url !== url) {
    image.dataset.url = url;
    const next = new Image();
    next.onload = () => { image.src = url; };
    next.src = url;
  }
  return image;
}

/** The queue beside every view; on a phone it is folded below. */
export function show(root) {
  const summary = h("summary", {}), body = h("div", { class: "jobs" });
  const folded = h("details", { open: innerWidth > 900 }, summary, body);
  root.replaceChildren(folded);

  function draw() {
    const jobs = [...state.jobs.values()];
    const running = jobs.filter((job) => job.state === "running");
    const waiting = jobs.filter((job) => job.state === "queued").sort((a, b) => (a.position ?? 0) - (b.position ?? 0));
    const ended = jobs.filter((job) => !["running", "queued"].includes(job.state)).sort((a, b) => String(b.ended ?? "").localeCompare(String(a.ended ?? ""))).slice(0, 4);
    const left = running.map((job) => job.progress?.left_s).find((seconds) => seconds !== undefined && seconds !== null);
    redraw(summary, h("strong", {}, "Queue"), h("span", { class: "quiet" }, running.length || waiting.length ? ` ${running.length} running, ${waiting.length} waiting${left === undefined ? "" : `, ${duration(left)} left`}` : " nothing to do"));
    redraw(body, [...running, ...waiting, ...ended].map((job) => jobCard(job, { where: true, preview: false })), jobs.length ? null : h("p", { class: "quiet" }, "What you start runs here, one after the other. It goes on when this window is closed, and after a restart."));
  }

  draw();
  listen((what) => { if (what === "job" || what === "case") draw(); });
}

/** One job: state, progress, time left, what can be done. `preview` shows the picture as it comes. */
export function jobCard(job, { where = false, preview = false } = {}) {
  const part = job.progress?.share ?? null, running = job.state === "running";
  const left = job.progress?.left_s;
  const act = (name, body) => () => attempt(async () => {
    const found = await post(jobUrl(job, name), body);
    if (found?.id) changed("job", keep(found));
  });
  const at = `#/case/${encodeURIComponent(job.case)}/${{ track: "mark", degradation: "camera", camera: "camera", report: "handover", package: "handover" }[job.kind] ?? `look/job-${encodeURIComponent(job.id)}`}`;
  return h("article", { class: `job ${job.state}`, "data-key": job.id, "aria-label": `${job.title}: ${WORDS[job.state]}` },
    h("div", { class: "job-head" }, where ? link(job.title, at) : h("strong", {}, job.title), h("span", { class: `state ${job.state}` }, WORDS[job.state])),
    where && job.case !== state.open?.id ? h("p", { class: "quiet" }, `in ${job.case}`) : null,
    running || (job.state === "queued" && job.progress) ? h("progress", part === null ? { "aria-label": `Progress of ${job.title}` } : { max: 1, value: part, "aria-label": `Progress of ${job.title}` }) : null,
    running ? h("p", { class: "quiet job-now" }, [part === null ? null : `${Math.floor(100 * part)} %`, left === undefined || left === null ? (!job.progress ? "starting" : part !== null ? "longer than expected" : job.progress.share === null ? "time left not known: not measured yet" : null) : `${duration(left)} left`, stage(job.progress)].filter(Boolean).join(" · ")) : null,
    job.state === "queued" ? h("p", { class: "quiet" }, job.position > 1 ? `${count(job.position - 1, "job")} before it` : "next") : null,
    job.message && job.state !== "done" ? h("p", { class: job.state === "failed" ? "wrong" : "quiet" }, job.message) : null,
    ["done", "failed", "stopped"].includes(job.state) && job.ended ? h("p", { class: "quiet" }, time(job.ended), job.seconds ? ` · took ${duration(job.seconds)}` : "") : null,
    preview && running ? previewOf(job) : null,
    h("div", { class: "row" },
      running || job.state === "queued" ? button("Stop", act("stop"), { class: "small", "aria-label": `Stop ${job.title}` }) : null,
      ["failed", "stopped"].includes(job.state) ? button(job.state === "failed" ? "Try again" : "Go on", act("resume"), { class: "small", "aria-label": `${job.state === "failed" ? "Try again" : "Go on with"}: ${job.title}` }) : null,
      job.state === "queued" && [...state.jobs.values()].some((one) => one.state === "queued" && one.user === job.user && one.position < job.position) ? button("Do this first", act("move", { place: 1 }), { class: "small", "aria-label": `Do ${job.title} first` }) : null,
      job.command ? h("details", { class: "inline" }, h("summary", {}, "Command"), command(job.command, "Run in the folder of the case")) : null));
}
