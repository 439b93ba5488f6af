// @ts-check
// Objects and the marks of the current frame.

import { edit, post } from "./api.js";
import { element, quietButton } from "./elements.js";
import { byId, chosenObject, emit, goTo, marksOf, model, numberOf, on, say, sayError, set } from "./model.js";
import { picture } from "./pictures.js";
import { select } from "./tools.js";

/** @typedef {import("./model.js").Thing} Thing */

/** @param {Thing} one */
function objectItem(one) {
  const isChosen = one.id === model.object;
  const chooser = element("button", { type: "button", className: "chooser", title: `Mark ${one.name}` });
  chooser.setAttribute("aria-label", `Mark ${one.name}`);
  chooser.setAttribute("aria-pressed", String(isChosen));
  chooser.addEventListener("click", () => set("object", { object: one.id, selected: null }));
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
 * @param {Exclude<keyof import("./model.js").Marks, "extent">} kind
 * @param {number} [index]
 */
function markItem(text, label, kind, index) {
  const dot = element("span", { className: `dot ${label ? "plus" : "minus"}`, textContent: label ? "+" : "−" });
  dot.setAttribute("aria-label", label ? "object" : "background");
  dot.setAttribute("role", "img");
  const values = { object: chosenObject().id, frame: model.frame, kind, index };
  const remove = quietButton("×", `Remove ${text}`, () => edit("remove_prompt", values));
  if (kind === "mask" || kind === "scribbles") return element("li", {}, dot, element("span", { textContent: text }), remove);
  const choose = element("button", { type: "button", className: "quiet name", textContent: text });
  const isSelected = model.selected?.kind === kind && model.selected.index === (index ?? 0);
  choose.setAttribute("aria-pressed", String(isSelected));
  choose.addEventListener("click", () => select({ kind, index: index ?? 0 }));
  return element("li", {}, dot, choose, remove);
}

let marksShown = "";

function showMarks() {
  const marks = marksOf(chosenObject());
  byId("marks-frame").textContent = String(numberOf(model.frame));
  showMarkedFrames();
  // Made anew only when something changed, so that the focus stays where it is.
  const key = JSON.stringify([chosenObject().id, model.frame, marks, model.selected]);
  if (key === marksShown) return;
  marksShown = key;
  const active = document.activeElement;
  const focused = [...byId("marks").querySelectorAll("button")].findIndex((button) => button === active);
  const items = [];
  for (const [n, [x, y, label]] of (marks?.points ?? []).entries()) items.push(markItem(`point ${Math.floor(x)}, ${Math.floor(y)}`, label, "points", n));
  for (const [n, stroke] of (marks?.strokes ?? []).entries()) items.push(markItem(`stroke of ${stroke.width} pixels`, stroke.label, "strokes", n));
  if (marks?.box) items.push(markItem(`box ${marks.box.map(Math.round).join(", ")}`, 1, "box"));
  if (marks?.mask) items.push(markItem(`mask ${marks.mask}`, 1, "mask"));
  if (marks?.scribbles) items.push(markItem(`strokes ${marks.scribbles}`, 1, "scribbles"));
  byId("marks").replaceChildren(...(items.length ? items : [element("li", { className: "none", textContent: "nothing marked here" })]));
  byId("clear-frame").disabled = !items.length;
  if (focused >= 0) byId("marks").querySelectorAll("button")[focused]?.focus();
}

export function markedFrames() {
  const frames = model.state.objects.flatMap((one) => Object.keys(one.frames).map(Number));
  return [...new Set(frames)].sort((a, b) => a - b);
}

/** @param {-1 | 1} by */
export function goToMarked(by) {
  const frames = markedFrames();
  const found = by > 0 ? frames.find((frame) => frame > model.frame) : frames.filter((frame) => frame < model.frame).at(-1);
  if (found === undefined) say(`No marked frame ${by > 0 ? "after" : "before"} this one`);
  else goTo(found);
}

let framesShown = "";

function showMarkedFrames() {
  const frames = markedFrames();
  byId("marked").hidden = !frames.length;
  byId("copy-marks").disabled = nearestMarked() === null;
  const key = JSON.stringify([frames, model.frame]);
  if (key === framesShown) return;
  framesShown = key;
  byId("marked-frames").replaceChildren(...frames.map((frame) => {
    const chip = element("button", { type: "button", textContent: String(numberOf(frame)), title: `Go to frame ${numberOf(frame)}` });
    chip.setAttribute("aria-pressed", String(frame === model.frame));
    chip.addEventListener("click", () => goTo(frame));
    return chip;
  }));
}

// The frame whose marks would be copied here: the nearest one with marks of the chosen object.
function nearestMarked() {
  const frames = Object.keys(chosenObject().frames).map(Number).filter((frame) => frame !== model.frame);
  const nearest = frames.sort((a, b) => Math.abs(a - model.frame) - Math.abs(b - model.frame))[0];
  return nearest ?? null;
}

export async function copyHere() {
  const from = nearestMarked();
  if (from === null) {
    say("No other frame has marks of this object that could be copied");
    return;
  }
  const to = model.frame;
  say(`Following the marks of frame ${numberOf(from)} to frame ${numberOf(to)}`);
  if (await post("/api/copy", { object: chosenObject().id, from, to })) say(`The marks of frame ${numberOf(from)} were copied to frame ${numberOf(to)}, moved along with the picture. Check them.`);
}

// How sure the model is of the marked frame, after every click.
function showSure() {
  const matte = picture.mattesOf === model.frame ? picture.mattes.find(({ object }) => object.id === chosenObject().id) : undefined;
  const sure = matte && Number.isFinite(matte.confidence) ? Math.round(100 * matte.confidence) : null;
  byId("sure").textContent = sure === null ? "" : `${sure} % sure`;
  byId("sure").classList.toggle("warn", sure !== null && sure < 100 * model.clip.suggested_below);
}

function show() {
  showObjects();
  showMarks();
  byId("undo").disabled = !model.state.can_undo;
  byId("redo").disabled = !model.state.can_redo;
  byId("saved-as").textContent = model.state.saved_as;
}

/** @param {File} file */
async function loadMask(file) {
  if (await post(`/api/mask/${chosenObject().id}/${model.frame}`, file)) say(`${file.name} is the mask of frame ${numberOf(model.frame)}`);
}

// Files that are dropped: a mask on the picture, or a clip, which the page cannot open by itself.
function startDropping() {
  window.addEventListener("dragover", (event) => event.preventDefault());
  window.addEventListener("drop", (event) => {
    event.preventDefault();
    const file = event.dataTransfer?.files[0];
    if (!file) return;
    if (file.type.startsWith("image/")) loadMask(file);
    else sayError(`${file.name}: a browser does not say where a file lies; open it with: vidmatte pick ${file.name}`, "drop");
  });
}

export function startPanel() {
  byId("add-object").addEventListener("click", async () => {
    if (await edit("add_object", {})) set("object", { object: model.state.objects[model.state.objects.length - 1].id });
  });
  byId("clear-frame").addEventListener("click", () => edit("clear_frame", { object: chosenObject().id, frame: model.frame }));
  byId("load-mask").addEventListener("click", () => byId("mask-file").click());
  byId("mask-file").addEventListener("change", async () => {
    const file = byId("mask-file").files?.[0];
    if (file) await loadMask(file);
    byId("mask-file").value = "";
  });
  byId("undo").addEventListener("click", () => post("/api/undo"));
  byId("redo").addEventListener("click", () => post("/api/redo"));
  byId("copy-marks").addEventListener("click", copyHere);
  startDropping();
  on("state object", show);
  on("frame select", showMarks);
  on("mattes frame object", showSure);
  on("state", () => {
    const { jump } = model.state;
    if (!jump) return;
    // Undo and redo go to the frame that they change.
    delete model.state.jump;
    if (model.state.objects.some(({ id }) => id === jump.object)) set("object", { object: jump.object });
    goTo(jump.frame);
  });
}
