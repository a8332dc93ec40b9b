// Step 7: the report, and the package that another analyst can check.
import { caseUrl, post } from "./api.js";
import { attempt, button, command, h, link, redraw } from "./dom.js";
import { step } from "./case.js";
import { count, time } from "./format.js";
import { jobCard } from "./queue.js";
import { jobsOf, keep, state } from "./state.js";

const MOST = 6; // of what came since are named

export function show(root) {
  const start = (kind) => attempt(async () => {
    keep(await post(caseUrl(state.open.id, "jobs"), { kind, originals: [], options: {} }));
    draw();
  });

  function part(kind, title, text, ready, open) {
    const job = jobsOf(state.open.id).filter((one) => one.kind === kind).sort((a, b) => String(b.created).localeCompare(String(a.created)))[0];
    const busy = job && ["queued", "running"].includes(job.state), last = state.open.handed_over[kind];
    return h("section", { class: "part" }, h("h2", {}, title), h("p", {}, text),
      last?.since.length ? h("p", { class: "caution" }, h("strong", {}, "Not in it, or only in part: "), `${last.since.slice(0, MOST).join("; ")}${last.since.length > MOST ? `; and ${last.since.length - MOST} more` : ""}. Make the ${kind} again.`) : null,
      h("div", { class: "row" }, button(last ? `Make the ${kind} again` : `Make the ${kind}`, () => start(kind), { class: last && !last.since.length ? "" : "primary", disabled: !ready || busy }), last ? open(last.since.length ? "" : "primary") : null),
      job && job.state !== "done" ? jobCard(job) : null,
      last ? h("p", { class: "quiet" }, `Made ${time(last.made)}. `, kind === "package" && job?.state === "done" ? ["Note this where you hand it over: ", "SHA-256 ", h("code", {}, job.message?.split("SHA-256 ")[1] ?? "not known")] : null) : null);
  }

  function draw() {
    const { open } = state, { log } = open, ready = open.results.length > 0;
    redraw(root, h("h1", {}, "Hand over"),
      ready ? null : h("p", { class: "caution" }, "There is no result yet. ", link("Enhance a picture first", step("enhance")), "."),
      part("report", "Report", "One page with every picture that was made, beside its plain enlargement and its evidence map, and of every result its label and what was assumed. It opens in any browser, offline.", ready,
        (look) => link("Open the report", caseUrl(open.id, "report", "index.html"), { class: `button ${look}`, target: "_blank", rel: "noopener" })),
      part("package", "Court package", "A zip with the originals and their hashes, results, records, tracks, a report of all of it, every command line and the versions. Whoever has zssr-gan can check it, and make the results again.", ready,
        (look) => link("Download the package", caseUrl(open.id, "package.zip"), { class: `button ${look}`, download: "" })),
      h("div", { class: "part" }, command(`zssr-gan verify ${open.id}.zip --rerun`, "How the other side checks it")),
      h("section", { class: "part" }, h("h2", {}, "Log of the case"),
        h("p", {}, log.ok ? h("span", { class: "badge sure" }, "unbroken") : h("span", { class: "badge unsure" }, "broken"), log.ok ? ` ${count(log.entries, "entry", "entries")}; each has the hash of the one before.` : ` ${log.text}.`),
        h("p", { class: "quiet" }, `Folder: ${open.folder}`)),
      h("p", { class: "caution" }, h("strong", {}, "An investigative lead, not an identification."), " Say so to whoever gets it: enlarged detail can be wrong, and the evidence map shows where it is a guess."));
  }

  draw();
  return { update(what, facts) { if (what === "case" || (what === "job" && ["report", "package"].includes(facts?.kind))) draw(); } };
}
