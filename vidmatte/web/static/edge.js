// @ts-check
// The edge of the matte: controls that act at once on the still, the preview and the result, and on the command line.

import { post } from "./api.js";
import { element, quietButton } from "./elements.js";
import { byId, model, on } from "./model.js";

/** @typedef {import("./model.js").Edge} Edge */
/** @typedef {"clip_black" | "clip_white" | "remove_dots" | "fill_holes" | "grow" | "feather" | "smooth" | "despill_strength"} Slider */

/** @type {Partial<Record<keyof Edge, (edge: Edge) => void>>} */
const showers = {};
/** @type {Partial<Edge>} */
let waiting = {};
let isSending = false;

/**
 * Send changes, the newest of each control only, one request after the other.
 * @param {Partial<Edge>} changes
 */
async function send(changes) {
  Object.assign(waiting, changes);
  if (isSending) return;
  isSending = true;
  while (Object.keys(waiting).length) {
    const now = waiting;
    waiting = {};
    await post("/api/edge", now);
  }
  isSending = false;
  show();
}

/** @param {Slider} name */
function sliderRow(name) {
  const { least, most, step, label, help } = model.clip.options[name];
  const id = `edge-${name}`;
  const range = element("input", { type: "range", id, min: String(least), max: String(most), step: String(step) });
  const number = element("input", { type: "number", min: String(least), max: String(most), step: String(step) });
  number.setAttribute("aria-label", `${label}, as a number`);
  const usual = Number(model.clip.defaults[name]);
  range.addEventListener("input", () => {
    number.value = range.value;
    send({ [name]: Number(range.value) });
  });
  number.addEventListener("change", () => {
    const wanted = Number(number.value);
    if (number.value === "" || !Number.isFinite(wanted)) show();
    else send({ [name]: Math.min(Math.max(wanted, least), most) });
  });
  const reset = quietButton("↺", `Reset ${label}`, () => send({ [name]: usual }));
  showers[name] = (edge) => {
    // What is being changed is not put back by an older answer.
    if (document.activeElement !== number) number.value = String(edge[name]);
    range.value = String(edge[name]);
    reset.disabled = edge[name] === usual;
  };
  const text = element("label", { htmlFor: id, textContent: label, title: help });
  return element("div", { className: "control" }, text, range, number, reset);
}

function invertRow() {
  const { label, help } = model.clip.options.invert;
  const check = element("input", { type: "checkbox", id: "edge-invert" });
  check.addEventListener("change", () => send({ invert: check.checked }));
  showers.invert = (edge) => {
    check.checked = edge.invert;
  };
  return element("label", { className: "check", title: help }, check, ` ${label}`);
}

function despillRow() {
  const { label, help } = model.clip.options.despill;
  const select = element("select", { id: "edge-despill" }, new Option("none", ""), new Option("green", "green"), new Option("blue", "blue"));
  select.addEventListener("change", () => send({ despill: /** @type {Edge["despill"]} */ (select.value || null) }));
  showers.despill = (edge) => {
    select.value = edge.despill ?? "";
  };
  return element("div", { className: "control" }, element("label", { htmlFor: "edge-despill", textContent: label, title: help }), select);
}

function show() {
  if (isSending) return;
  const { edge } = model.state;
  for (const shower of Object.values(showers)) shower(edge);
  const strength = byId("edge").querySelector("#edge-despill_strength")?.closest(".control");
  if (strength instanceof HTMLElement) strength.hidden = edge.despill === null;
  byId("edge-reset").disabled = JSON.stringify(edge) === JSON.stringify(model.clip.defaults);
  const needsNeighbours = edge.smooth > 0 && !model.isResult && !model.state.preview.on;
  byId("edge-note").textContent = needsNeighbours ? "Smoothing shows on frames of the preview." : "";
}

export function startEdge() {
  /** @type {Slider[]} */
  const sliders = ["clip_black", "clip_white", "remove_dots", "fill_holes", "grow", "feather", "smooth"];
  byId("edge").replaceChildren(...sliders.map(sliderRow), despillRow(), sliderRow("despill_strength"), invertRow());
  byId("edge-reset").addEventListener("click", () => send({ ...model.clip.defaults }));
  on("state result", show);
}
