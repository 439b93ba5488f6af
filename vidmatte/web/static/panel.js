// @ts-check
// Objects and the marks of the current frame.

import { edit, post } from "./api.js";
import { byId, chosenObject, emit, marksOf, model, numberOf, on, set } from "./model.js";

/** @typedef {import("./model.js").Thing} Thing */

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Partial<HTMLElementTagNameMap[Tag]>} properties
 * @param {(Node | string)[]} children
 */
function element(tag, properties, ...children) {
  const made = document.createElement(tag);
  Object.assign(made, properties);
  made.append(...children);
  return made;
}

/**
 * @param {string} text
 * @param {string} label
 * @param {() => void} onClick
 */
function quietButton(text, label, onClick) {
  const button = element("button", { type: "button", className: "quiet", textContent: text, title: label });
  button.setAttribute("aria-label", label);
  button.addEventListener("click", onClick);
  return button;
}

/** @param {Thing} one */
function objectItem(one) {
  const isChosen = one.id === model.object;
  const chooser = element("input", { type: "radio", name: "object", checked: isChosen });
  chooser.setAttribute("aria-label", `Mark ${one.name}`);
  chooser.addEventListener("change", () => set("object", { object: one.id }));
  const color = element("input", { type: "color", value: one.color });
  color.setAttribute("aria-label", `Colour of ${one.name}`);
  color.addEventListener("change", () => edit("change_object", { object: one.id, color: color.value }));
  const name = element("input", { type: "text", value: one.name, maxLength: 60 });
  name.setAttribute("aria-label", `Name of ${one.name}`);
  name.addEventListener("change", async () => {
    if (!(await edit("change_object", { object: one.id, name: name.value }))) name.value = one.name;
  });
  name.addEventListener("focus", () => model.object !== one.id && set("object", { object: one.id }));
  const isHidden = model.hidden.has(one.id);
  const eye = quietButton(isHidden ? "Show" : "Hide", `${isHidden ? "Show" : "Hide"} ${one.name}`, () => {
    if (!model.hidden.delete(one.id)) model.hidden.add(one.id);
    emit("objects");
    show();
  });
  const remove = quietButton("×", `Remove ${one.name}`, () => edit("remove_object", { object: one.id }));
  const item = element("li", { className: isChosen ? "chosen" : "" }, chooser, color, name, eye, remove);
  item.dataset.object = String(one.id);
  return item;
}

// The list is made anew only when it changed, so that the focus stays where it is.
let shown = "";

function showObjects() {
  const key = JSON.stringify([model.state.objects.map(({ id, name, color }) => [id, name, color]), model.object, [...model.hidden]]);
  if (key === shown) return;
  shown = key;
  const active = document.activeElement;
  const item = /** @type {HTMLElement | null} */ (active?.closest("#objects li") ?? null);
  const index = item === null ? -1 : [...item.children].findIndex((child) => child === active);
  byId("objects").replaceChildren(...model.state.objects.map(objectItem));
  if (item === null) return;
  const renewed = byId("objects").querySelector(`[data-object="${item.dataset.object}"]`)?.children[index];
  if (renewed instanceof HTMLElement) renewed.focus();
}

/**
 * @param {string} text
 * @param {number} label
 * @param {keyof import("./model.js").Marks} kind
 * @param {number} [index]
 */
function markItem(text, label, kind, index) {
  const dot = element("span", { className: `dot ${label ? "plus" : "minus"}`, textContent: label ? "+" : "−" });
  dot.setAttribute("aria-label", label ? "object" : "background");
  dot.setAttribute("role", "img");
  const values = { object: chosenObject().id, frame: model.frame, kind, index };
  const remove = quietButton("×", `Remove ${text}`, () => edit("remove_prompt", values));
  return element("li", {}, dot, element("span", { textContent: text }), remove);
}

function showMarks() {
  const marks = marksOf(chosenObject());
  const items = [];
  for (const [n, [x, y, label]] of (marks?.points ?? []).entries()) items.push(markItem(`point ${Math.floor(x)}, ${Math.floor(y)}`, label, "points", n));
  for (const [n, stroke] of (marks?.strokes ?? []).entries()) items.push(markItem(`stroke of ${stroke.width} pixels`, stroke.label, "strokes", n));
  if (marks?.box) items.push(markItem(`box ${marks.box.map(Math.round).join(", ")}`, 1, "box"));
  if (marks?.mask) items.push(markItem(`mask ${marks.mask}`, 1, "mask"));
  if (marks?.scribbles) items.push(markItem(`strokes ${marks.scribbles}`, 1, "scribbles"));
  const frames = Object.keys(chosenObject().frames).map(Number).filter((frame) => frame !== model.frame);
  const others = frames.length ? `, but on frame ${frames.map(numberOf).join(", ")}` : "";
  byId("marks").replaceChildren(...(items.length ? items : [element("li", { className: "none", textContent: `nothing marked here${others}` })]));
  byId("marks-frame").textContent = String(numberOf(model.frame));
  byId("clear-frame").disabled = !items.length;
  const isNew = model.state.objects.every((one) => Object.keys(one.frames).length === 0);
  byId("hint").hidden = !isNew;
}

function show() {
  showObjects();
  showMarks();
  byId("undo").disabled = !model.state.can_undo;
  byId("redo").disabled = !model.state.can_redo;
  byId("saved-as").textContent = model.state.saved_as;
}

export function startPanel() {
  byId("add-object").addEventListener("click", async () => {
    if (await edit("add_object", {})) set("object", { object: model.state.objects[model.state.objects.length - 1].id });
  });
  byId("clear-frame").addEventListener("click", () => edit("clear_frame", { object: chosenObject().id, frame: model.frame }));
  byId("load-mask").addEventListener("click", () => byId("mask-file").click());
  byId("mask-file").addEventListener("change", async () => {
    const file = byId("mask-file").files?.[0];
    if (file) await post(`/api/mask/${chosenObject().id}/${model.frame}`, file);
    byId("mask-file").value = "";
  });
  byId("undo").addEventListener("click", () => post("/api/undo"));
  byId("redo").addEventListener("click", () => post("/api/redo"));
  on("state object", show);
  on("frame", showMarks);
}
