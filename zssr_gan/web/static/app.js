// The page: which view is shown, who is in, and what every view has around it.
import { get, post, server } from "./api.js";
import { attempt, button, closeNotice, dialog, h, labels, link, notice, redraw } from "./dom.js";
import { bytes } from "./format.js";
import { help } from "./help.js";
import * as home from "./home.js";
import * as casePage from "./case.js";
import { login } from "./login.js";
import * as queue from "./queue.js";
import { fetchCase, follow, keep, listen, reload, state } from "./state.js";

const main = document.getElementById("main");
let shown = { key: null, update() {}, leave() {} }, turns = 0;

/** Show what the address asks for: #/ the cases, #/case/ID/STEP/ARGUMENT one case. */
async function route() {
  const parts = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  const [kind, id, step, ...rest] = parts;
  const key = kind === "case" ? `case ${id} ${step}` : "home", turn = (turns += 1);
  try {
    const found = kind !== "case" ? null : state.open?.id === id ? state.open : await fetchCase(id);
    if (turn !== turns) return; // another address was asked for meanwhile
    if (found !== state.open) found?.jobs?.forEach(keep);
    state.open = found;
  } catch (error) {
    if (error.status === 401 || turn !== turns) return;
    notice(error.message, { error: true });
    location.hash = "#/";
    return;
  }
  const same = shown.key === key;
  if (!same) shown.leave?.();
  const view = kind === "case" ? casePage : home;
  const made = same && shown.go ? (shown.go(rest), shown) : view.show(main, step, rest);
  shown = { ...made, key };
  top();
  document.title = state.open ? `${state.open.title} - zssr-gan` : "zssr-gan";
  if (!same) {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
}

function brand(label) {
  return link([h("img", { src: "/static/icon.svg", alt: "", width: "22", height: "22" }), "zssr-gan"], "#/", { class: "brand", "aria-label": label });
}

function top() {
  const { me, open } = state;
  redraw(document.getElementById("top"),
    brand("zssr-gan: all cases"),
    open ? h("span", { class: "crumb" }, link("All cases", "#/"), h("span", { "aria-hidden": "true" }, "/"), h("strong", {}, open.title), open.number ? h("span", { class: "quiet" }, open.number) : null) : h("span", { class: "crumb" }),
    h("span", { class: "quiet device", title: "What this machine computes with" }, me?.device ?? ""),
    me?.users ? h("span", { class: "quiet" }, me.name, me.admin ? " (sees all cases)" : "") : null,
    me?.users ? button("Sign out", () => attempt(async () => { await post("/api/logout"); location.reload(); }), { class: "small" }) : null,
    button("Keys and help", help, { class: "small", "aria-keyshortcuts": "?" }),
  );
}

server.refused = (refusal) => {
  shown.leave?.();
  shown = { key: null, update() {} };
  document.getElementById("dialog").close(); // it would lie over the way in
  document.getElementById("lost").hidden = true;
  document.getElementById("queue").replaceChildren();
  document.getElementById("top").replaceChildren(brand("zssr-gan"));
  login(main, refusal, start);
};

listen((what, facts) => {
  if (what === "lost") {
    const banner = document.getElementById("lost");
    banner.hidden = !facts;
    banner.textContent = facts ? "The connection to zssr-gan web is lost. Jobs go on, or wait until it is started again; the page tries again by itself." : "";
  }
  if (what === "gone") {
    notice(facts.message, { error: true });
    location.hash = "#/";
  }
  if (what === "ended" && innerWidth <= 900) notice(`${facts.title}: ${facts.state === "failed" ? facts.message ?? "failed" : "done"}`, { error: facts.state === "failed" });
  if (what === "case" && state.open) top();
  shown.update?.(what, facts);
});

addEventListener("hashchange", () => route());
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !document.getElementById("dialog").open && closeNotice()) return event.preventDefault();
  const typed = "select, textarea, input:not([type=range], [type=checkbox], [type=radio])";
  if (event.target.matches(typed) || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input") && (event.key.length > 1 || event.key === " ")) return; // a slider's own keys
  if (document.getElementById("dialog").open) return;
  if (event.key === "?") return help();
  shown.key?.startsWith("case") && casePage.key(event, shown);
});
// A file that is dropped beside the drop zone does not replace the page: it goes where the zone would put it.
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  if (event.defaultPrevented) return;
  event.preventDefault();
  document.querySelector(".drop")?.drop(event);
});

async function start() {
  try {
    state.me = await get("/api/me");
    Object.assign(labels, state.me.labels);
    state.methods = await get("/api/methods");
    queue.show(document.getElementById("queue"));
    await reload();
    follow();
    await route();
    const room = state.me.free_bytes;
    if (room !== null && room < 1e9) dialog("Little room is left", h("p", {}, `The disk with the cases has ${bytes(room)} left. Uploads and results need room: delete what is not needed.`));
  } catch (error) {
    if (error.status !== 401) main.replaceChildren(h("h1", {}, "The page cannot begin"), h("p", { role: "alert" }, error.message), button("Try again", start, { class: "primary" }));
  }
}

start();
