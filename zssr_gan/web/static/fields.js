// Fields for numbers: unit and limits are told beside them, and what is not possible in one sentence.
import { h } from "./dom.js";

const PATIENCE = 700; // milliseconds in which a number may be typed to its end

let made = 0;

/**
 * A field for a number; `step` 1 takes whole numbers alone, `optional` also none. `onchange()` is called with every change that a person makes.
 * `value()` is null where the field is empty or what it holds is not possible.
 */
export function numberField(name, title, { unit, min, max, step = 1, value = "", optional = false, note = "", onchange }) {
  const id = `number-${(made += 1)}`, whole = step === 1;
  let touched = false, timer = null;
  const input = h("input", { type: "number", name, step: String(step), inputmode: whole ? "numeric" : "decimal", value, "aria-describedby": `${id} ${id}-wrong`, oninput: typed, onchange: look });
  const hint = h("span", { class: "quiet", id }), wrong = h("span", { class: "wrong", id: `${id}-wrong`, "aria-live": "polite" });
  const node = h("div", { class: "number-field" }, h("label", {}, `${title} (${unit})`, input), hint, wrong);

  function typed() {
    touched = true;
    clearTimeout(timer);
    if (wrong.textContent) look();
    else timer = setTimeout(look, PATIENCE);
    onchange();
  }

  /** Why the value is not possible, or null. */
  function problem() {
    const number = Number(input.value), range = `give a ${whole ? "whole " : ""}number from ${min} to ${max}`;
    if (input.validity.badInput) return `${title}: this is no number; ${range}.`;
    if (input.value === "") return optional ? null : `${title}: is empty; ${range}.`;
    if (!(number >= min && number <= max)) return `${title}: ${input.value} is not possible; ${range}.`;
    return whole && !Number.isInteger(number) ? `${title}: ${input.value} is not possible; ${range}.` : null;
  }

  function look() {
    clearTimeout(timer);
    timer = null;
    const text = touched ? problem() : null;
    wrong.textContent = text ?? "";
    if (text) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
  }

  const field = {
    node,
    valid: () => problem() === null,
    value: () => (input.value === "" || problem() ? null : Number(input.value)),
    /** Show a number, or "" for none. */
    set(next) {
      if (next !== "" && field.value() === next && !wrong.textContent) return;
      input.value = String(next);
      touched = next !== "";
      look();
    },
    limits(low, high) {
      [min, max] = [low, high];
      input.min = String(low);
      input.max = String(high);
      hint.textContent = `${low} to ${high}${note}`;
      if (timer === null) look();
    },
  };
  field.limits(min, max);
  return field;
}
