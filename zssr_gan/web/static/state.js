// What the page knows, and the events by which it stays true.
import { caseUrl, get } from "./api.js";

export const state = { me: null, methods: [], jobs: new Map(), open: null, watched: null };

const listeners = new Set();

/** Call `listener(what, facts)` after a change: "job", "ended" (a job), "case", "gone", "upload" or "lost"; what comes back ends it. */
export function listen(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Take in what the server says of a job. */
export function keep(job) {
  const known = { ...job, id: String(job.id) };
  state.jobs.set(known.id, known);
  return known;
}

export function changed(what, facts) {
  for (const listener of [...listeners]) listener(what, facts);
}

let asked = 0, answered = 0; // fetches of the open case: the newest that has come counts

/** Fetch the open case again. */
export async function refresh() {
  const id = state.open?.id, turn = (asked += 1);
  if (!id) return;
  let found;
  try {
    found = await fetchCase(id);
  } catch (error) {
    if (error.status !== 404) throw error;
    return changed("gone", error); // deleted in another window
  }
  if (state.open?.id !== id || turn < answered) return;
  answered = turn;
  (found.jobs ?? []).forEach(keep);
  state.open = found;
  changed("case");
}

/** A case with its files by name, as a folder shows them. */
export async function fetchCase(id) {
  const found = await get(caseUrl(id));
  found.originals.sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }) || a.id - b.id);
  return found;
}

export const pace = { wait: 150 }; // milliseconds that events are gathered before the case is fetched

let events = null, waiting = null;

/** Follow the server's events; when the connection comes back, everything is fetched again. */
export function follow() {
  events?.close();
  events = new EventSource("/api/events");
  let lost = false;
  events.addEventListener("open", async () => {
    if (lost) await reload().catch(() => {}); // what is lost again comes again
    lost = false;
    changed("lost", false);
  });
  events.addEventListener("error", () => {
    lost = true;
    changed("lost", true);
    if (events.readyState === EventSource.CLOSED) setTimeout(() => get("/api/me").then(follow, (error) => { if (error.status !== 401) follow(); }), 3000);
  });
  events.addEventListener("job", (event) => {
    const told = JSON.parse(event.data);
    const before = state.jobs.get(String(told.id)), job = keep(told);
    changed("job", job);
    if (before?.state === "running" && ["done", "failed"].includes(job.state)) changed("ended", job);
    const next = before?.state !== job.state || before?.progress?.image !== job.progress?.image; // results come one by one
    if (next && state.open?.id === job.case) later();
  });
  events.addEventListener("case", (event) => {
    if (JSON.parse(event.data).id === state.open?.id) later();
  });
}

function later() { // several events at once are one fetch
  waiting ??= setTimeout(() => {
    waiting = null;
    refresh().catch(() => {});
  }, pace.wait);
}

export async function reload() {
  const jobs = await get("/api/jobs");
  state.jobs = new Map();
  jobs.forEach(keep);
  changed("job");
  await refresh();
}

// Choices of the analyst, for as long as the window is open, also when the page is loaded again.
const choices = new Map();

addEventListener("pagehide", () => {
  for (const [id, { pictures: picked, edits, ...rest }] of choices) sessionStorage.setItem(`case ${id}`, JSON.stringify({ ...rest, pictures: picked && [...picked], edits: [...edits].map(([track, frames]) => [track, [...frames]]) }));
});

function stored(id) {
  const { pictures: picked, edits, ...rest } = JSON.parse(sessionStorage.getItem(`case ${id}`) ?? "{}");
  return { ...rest, pictures: picked ? new Set(picked) : null, edits: new Map((edits ?? []).map(([track, frames]) => [track, new Map(frames)])) };
}

/** What was chosen in a case: pictures (null: all), camera, method, scale, source. */
export function chosen(id) {
  if (!choices.has(id)) choices.set(id, { camera: "auto", method: null, scale: 2, source: null, video: null, track: null, ...stored(id) });
  return choices.get(id);
}

export const isImage = (original) => original.kind === "image" && !original.problem && !original.pending;
export const isVideo = (original) => original.kind === "video" && !original.problem && !original.pending;

/** The pictures that are chosen: all that can be read, until some are taken out. */
export function pictures(found) {
  const picked = chosen(found.id).pictures;
  return found.originals.filter((original) => isImage(original) && (picked === null || picked.has(original.id)));
}

export function jobsOf(id) {
  return [...state.jobs.values()].filter((job) => job.case === id);
}
