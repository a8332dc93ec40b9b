// Step 2: what the camera did, estimated from the pictures; accept it, or set another.
import { caseUrl, post } from "./api.js";
import { attempt, button, h, link, redraw } from "./dom.js";
import { step } from "./case.js";
import { numberField } from "./fields.js";
import { count } from "./format.js";
import { jobCard } from "./queue.js";
import { chosen, jobsOf, keep, pictures, state } from "./state.js";

const isCamera = (job) => ["degradation", "camera"].includes(job?.kind);
const FIELDS = [ // limits are those of the server
  ["blur", "Blur", { unit: "px", min: 0, max: 8, step: 0.1, value: "0" }],
  ["noise", "Noise", { unit: "levels of 255", min: 0, max: 127, step: 0.5, value: "0" }],
  ["jpeg", "JPEG", { unit: "quality", min: 1, max: 100, optional: true, note: "; empty: not compressed" }],
];

export function show(root) {
  const choice = chosen(state.open.id);
  const use = button("Use these values", () => set());
  const byHand = FIELDS.map(([name, title, facts]) => [name, numberField(name, title, { ...facts, onchange: () => { use.disabled = !byHand.every(([, field]) => field.valid()); } })]);

  function draw() {
    const picked = pictures(state.open), { estimates } = state.open;
    const running = jobsOf(state.open.id).filter((job) => isCamera(job) && ["queued", "running", "failed"].includes(job.state)).slice(-2);
    redraw(root, () => [h("h1", {}, "What did the camera do?"),
      h("p", {}, "Blur, noise and compression of the camera are undone only where they are known. They are estimated from the low-resolution pictures themselves: more pictures of one camera make it surer."),
      picked.length ? h("div", { class: "row" }, button(`Estimate from ${count(picked.length, "chosen picture")}`, estimate, { class: "primary" }), picked.length < 10 ? h("span", { class: "quiet" }, "Few pictures rarely tell a blur.") : null)
        : h("p", { class: "quiet" }, "Of a video, it is estimated from the frames when they are fused or enhanced. To estimate it here, ", link("choose pictures", step("files")), "."),
      running.map((job) => jobCard(job)),
      h("fieldset", { class: "options" }, h("legend", {}, "Enhance with"),
        option("auto", "What each run finds by itself", picked.length === 1 ? "One picture tells its noise and JPEG compression, and these are undone where it shows them; its blur it does not tell, so none is assumed." : "Estimated anew from all pictures, as the command does by default. Right for most cases."),
        estimates.map((one) => option(one.id, one.name, one.summary, one)),
        option("bicubic", "No blur, no noise (bicubic)", "Assumes that the pictures were made small by bicubic interpolation, and that nothing else was done to them. Wrong for most cameras: for comparison.")),
      h("details", { class: "part" }, h("summary", {}, "Set it by hand"),
        h("p", {}, "Where you know the camera. Blur and noise are standard deviations: of a round blur in pixels of the original, of noise in levels. Results say that these values were set by a person."),
        h("div", { class: "numbers" }, byHand.map(([, field]) => field.node)), h("div", { class: "row" }, use)),
      h("div", { class: "next" }, h("span", { class: "grow" }), link("Go on to Enhance", step("enhance"), { class: "button primary" }))]);
  }

  function option(value, title, text, estimate = null) {
    return h("div", { class: "option" },
      h("label", { class: "check" }, h("input", { type: "radio", name: "camera", value, checked: choice.camera === value, onchange: () => { choice.camera = value; } }),
        h("span", {}, h("strong", {}, title), estimate && !estimate.by_hand ? h("span", { class: estimate.certain ? "badge sure" : "badge unsure" }, estimate.certain ? "sure" : "not sure") : null, h("span", { class: "block" }, text))),
      estimate?.why ? h("p", { class: "quiet indent" }, estimate.why) : null,
      estimate?.plot ? h("details", { class: "indent" }, h("summary", {}, `Drawn: ${estimate.name}`), h("img", { class: "plot", loading: "lazy", alt: `Blur, noise and compression of ${estimate.name}: ${estimate.summary}`, src: caseUrl(state.open.id, "estimates", estimate.id, "plot.png") })) : null);
  }

  const set = () => attempt(async () => {
    const options = Object.fromEntries(byHand.map(([name, field]) => [name, field.value()]).filter(([, value]) => value !== null));
    const job = keep(await post(caseUrl(state.open.id, "jobs"), { kind: "camera", originals: [], options }));
    choice.camera = String(job.id); // its file has the job's number
    draw();
  });

  const estimate = () => attempt(async () => {
    const body = { kind: "degradation", originals: pictures(state.open).map((one) => one.id), options: {} };
    keep(await post(caseUrl(state.open.id, "jobs"), body));
    draw();
  });

  draw();
  return { update(what, facts) { if (what === "case" || (what === "job" && isCamera(facts))) draw(); } };
}
