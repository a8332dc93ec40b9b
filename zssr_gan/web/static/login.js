// Who is not in: a name and a password, or the address that the command printed.
import { post } from "./api.js";
import { h, redraw } from "./dom.js";

export function login(root, refusal, entered) {
  if (!refusal.body.users) {
    redraw(root, h("section", { class: "narrow" }, h("h1", {}, "Open the address that the command printed"),
      h("p", {}, refusal.message),
      h("p", {}, "When ", h("code", {}, "zssr-gan web"), " starts, it prints an address with a token. Open that address once in this browser; after that this page opens by itself.")));
    return;
  }
  const wrong = h("p", { class: "wrong", role: "alert" });
  const form = h("form", { class: "stack", onsubmit: async (event) => {
    event.preventDefault();
    const given = new FormData(form);
    try {
      await post("/api/login", { name: given.get("name"), password: given.get("password") });
      entered();
    } catch (error) {
      wrong.textContent = error.message;
    }
  } },
  h("label", {}, "Name", h("input", { name: "name", autocomplete: "username", required: true })),
  h("label", {}, "Password", h("input", { name: "password", type: "password", autocomplete: "current-password", required: true })),
  wrong, h("div", { class: "row" }, h("button", { class: "primary" }, "Sign in")));
  redraw(root, h("section", { class: "narrow" }, h("h1", {}, "Sign in"), form));
  form.querySelector("input").focus();
}
