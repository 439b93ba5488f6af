// @ts-check
// Objects and the marks of the current frame.

import { edit, post } from "./api.js";
import { element, quietButton } from "./elements.js";
import { byId, chosenObject, emit, goTo, marksOf, model, numberOf, on, say, sayError, set } from "./model.js";
import { stillOf } from "./pictures.js";
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
  // Whoever names an object means it: the next mark belongs to it.
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
  const matte = stillOf(chosenObject());
  const sure = matte && Number.isFinite(matte.confidence) ? Math.round(100 * matte.confidence) : null;
  byId("sure").textContent = sure === null ? "" : `${sure} % sure`;
  byId("sure").classList.toggle("warn", sure !== null && sure < 100 * model.clip.suggested_below);
}

// One click on a shirt may mean the shirt, the person or the group: the model offers up to three nested answers.

/** @returns {string[]} */
function answersHere() {
  const answers = stillOf(chosenObject())?.answers ?? [];
  return answers.length > 1 ? answers : [];
}

export function hasAnswers() {
  return !model.isResult && answersHere().length > 0;
}

/** @param {string} extent */
async function chooseAnswer(extent) {
  const answers = answersHere();
  const changed = await edit("set_extent", { object: chosenObject().id, frame: model.frame, extent });
  if (changed) say(`Answer ${answers.indexOf(extent) + 1} of ${answers.length}: ${extent}`);
}

export function nextAnswer() {
  const matte = stillOf(chosenObject());
  const answers = answersHere();
  if (!matte || !answers.length) {
    say("The model has one answer to the marks of this frame");
    return;
  }
  // Quick presses count from the choice that is on its way to the server, not from the picture before it.
  const asked = marksOf(chosenObject())?.extent ?? matte.answer ?? "object";
  const place = answers.includes(asked) ? answers.indexOf(asked) : answers.indexOf(matte.answer ?? "object");
  return chooseAnswer(answers[(place + 1) % answers.length]);
}

let modelsShown = "";

// Which model answers the marks, and the others that are on this machine.
function showPromptModel() {
  const { prompt_model: name, prompt_models: names } = model.state;
  const select = byId("prompt-model");
  if (names.join() !== modelsShown) {
    modelsShown = names.join();
    select.replaceChildren(...names.map((one) => new Option(one)));
  }
  select.disabled = names.length < 2;
  // While another one is loaded, the choice of the user stands.
  if (!isSwitching) select.value = name;
}

let isSwitching = false;

async function choosePromptModel() {
  const name = byId("prompt-model").value;
  isSwitching = true;
  say(`Loading ${name}`);
  const isDone = await post("/api/prompt-model", { name });
  isSwitching = false;
  if (isDone) say(`Marks are answered by ${name}`);
  showPromptModel();
}

let answersShown = "";

function showAnswers() {
  const answers = model.isResult ? [] : answersHere();
  const answer = stillOf(chosenObject())?.answer ?? null;
  byId("answers").hidden = !answers.length;
  byId("answer-place").textContent = answers.length ? `${answers.indexOf(answer ?? "") + 1} of ${answers.length} (Tab)` : "";
  const key = JSON.stringify([answers, answer]);
  if (key === answersShown) return;
  answersShown = key;
  const focused = [...byId("answer-choice").children].findIndex((button) => button === document.activeElement);
  byId("answer-choice").replaceChildren(...answers.map((extent) => {
    const name = extent[0].toUpperCase() + extent.slice(1);
    const button = element("button", { type: "button", textContent: name, title: `${name}: what the first mark means (A)` });
    button.setAttribute("aria-pressed", String(extent === answer));
    button.addEventListener("click", () => chooseAnswer(extent));
    return button;
  }));
  const again = byId("answer-choice").children[focused];
  if (again instanceof HTMLElement) again.focus();
}

function show() {
  showObjects();
  showMarks();
  showPromptModel();
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
  byId("prompt-model").addEventListener("change", choosePromptModel);
  byId("add-object").addEventListener("click", async () => {
    if (await edit("add_object", {})) set("object", { object: model.state.objects[model.state.objects.length - 1].id });
  });
  byId("clear-frame").addEventListener("click", () => edit("clear_frame", { object: chosenObject().id, frame: model.frame }));
  byId("load-mask").addEventListener("click", () => byId("mask-file").click());
  byId("mask-file").addEventListener("change", async () => {
    const file = byId("mask-file").files?.[0];
    if (file) await loadMask(file);
    byId("mask-file").value = ""; // the same file may be chosen again after a correction
  });
  byId("undo").addEventListener("click", () => post("/api/undo"));
  byId("redo").addEventListener("click", () => post("/api/redo"));
  byId("copy-marks").addEventListener("click", copyHere);
  startDropping();
  on("state object", show);
  on("frame select", showMarks);
  on("mattes frame object", showSure);
  on("mattes frame object result", showAnswers);
  on("state", () => {
    const { jump } = model.state;
    if (!jump) return;
    // Undo and redo go to the frame that they change.
    delete model.state.jump;
    if (model.state.objects.some(({ id }) => id === jump.object)) set("object", { object: jump.object });
    goTo(jump.frame);
  });
}
