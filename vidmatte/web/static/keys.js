// @ts-check
// The keyboard: everything that the mouse can do.

import { edit, post } from "./api.js";
import { byId, emit, goTo, model, say, set } from "./model.js";
import { nextUnsure, setRange, togglePlay, togglePreview } from "./timeline.js";
import { draft, fit, inside, redraw, reveal, toScreen, zoomBy } from "./stage.js";
import { mark, target } from "./tools.js";

/** @typedef {import("./model.js").Place} Place */

/** @type {import("./model.js").View[]} */
const VIEWS = ["source", "overlay", "alpha", "checker", "color"];
/** @type {Record<string, string>} */
const TOOLS = { p: "point", b: "box", s: "brush", h: "hand" };
/** @type {Record<string, [number, number]>} */
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * Where Enter began a box or a stroke.
 * @type {Place & {points: [number, number][], label: number} | null}
 */
let from = null;

/** @type {Record<string, () => void>} */
const plain = {
  k: togglePlay,
  x: () => set("tool", { label: 1 - model.label }),
  "[": () => set("tool", { brush: Math.max(2, Math.round(model.brush / 1.25)) }),
  "]": () => set("tool", { brush: Math.min(200, Math.round(model.brush * 1.25) + 1) }),
  "+": () => zoomBy(1.5, ...crossOnScreen()),
  "=": () => zoomBy(1.5, ...crossOnScreen()),
  "-": () => zoomBy(1 / 1.5, ...crossOnScreen()),
  0: fit,
  i: () => setRange("start"),
  o: () => setRange("end"),
  v: togglePreview,
  n: nextUnsure,
  ",": () => goTo(model.frame - 1),
  ".": () => goTo(model.frame + 1),
  "?": () => byId("help").showModal(),
  c: () => (model.cross ? leaveCross() : showCross()),
};

/**
 * Where zooming stays: at the crosshair, else in the middle.
 * @returns {[number, number] | []}
 */
function crossOnScreen() {
  if (!model.cross) return [];
  const { x, y } = toScreen(model.cross.x, model.cross.y);
  return [x, y];
}

/** @param {Element} element */
function isTyping(element) {
  return element.matches("input:not([type=range]):not([type=checkbox]):not([type=radio]), textarea, select, [contenteditable]");
}

/** @param {KeyboardEvent} event */
function pressed(event) {
  const focused = event.target instanceof Element ? event.target : document.body;
  if (document.querySelector("dialog[open]") || isTyping(focused)) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if ((event.ctrlKey || event.metaKey) && (key === "z" || key === "y")) {
    post(key === "y" || event.shiftKey ? "/api/redo" : "/api/undo");
  } else if (model.cross && focused === byId("stage") && crossKey(event, key)) {
    redraw();
  } else if (event.ctrlKey || event.metaKey || event.altKey || !plainKey(event, key, focused)) {
    return;
  }
  event.preventDefault();
}

/**
 * Do what a key means anywhere; whether it means something.
 * @param {KeyboardEvent} event
 * @param {string} key
 * @param {Element} focused
 */
function plainKey(event, key, focused) {
  const onStage = focused === byId("stage");
  // Arrows belong to what has the focus, where that is a choice or a slider.
  const isFree = onStage || !focused.closest("[role=radiogroup], input");
  if (key in ARROWS && isFree && ARROWS[key][0]) goTo(model.frame + ARROWS[key][0] * (event.shiftKey ? 10 : 1));
  else if (key === "Home" && isFree) goTo(0);
  else if (key === "End" && isFree) goTo(model.clip.frames - 1);
  else if (key === "Enter" && onStage) showCross();
  else if ("12345".includes(key) && key.length === 1) set("view", { view: VIEWS[Number(key) - 1] });
  else if (key in TOOLS) set("tool", { tool: TOOLS[key] });
  else if (key in plain) plain[key]();
  else return false;
  return true;
}

function showCross() {
  byId("stage").focus();
  const { width, height } = model.clip;
  model.lastCross ??= { x: Math.floor(width / 2), y: Math.floor(height / 2) };
  set("cross", { cross: model.lastCross });
  sayPlace("Crosshair at ");
}

function leaveCross() {
  from = null;
  draft.mark = null;
  set("cross", { cross: null });
  say("Crosshair left");
}

function sayPlace(before = "") {
  const { x, y } = crossPlace();
  say(`${before}${Math.floor(x)}, ${Math.floor(y)}`);
}

// The crosshair, which is shown when this is asked.
function crossPlace() {
  return /** @type {Place} */ (model.cross);
}

/**
 * Do what a key means while the crosshair is shown; whether it means something.
 * @param {KeyboardEvent} event
 * @param {string} key
 */
function crossKey(event, key) {
  if (key in ARROWS) moveCross(ARROWS[key], event.shiftKey ? 10 : event.ctrlKey ? 50 : 1);
  else if (key === "Escape") leaveCross();
  else if (key === "Enter" || key === " ") act(1);
  else if (key === "Backspace") act(0);
  else if (key === "Delete") removeNearest();
  else return false;
  return true;
}

/**
 * @param {[number, number]} direction
 * @param {number} by
 */
function moveCross([dx, dy], by) {
  const { x, y } = crossPlace();
  const moved = inside({ x: Math.floor(x) + dx * by, y: Math.floor(y) + dy * by });
  model.lastCross = { x: Math.floor(moved.x), y: Math.floor(moved.y) };
  set("cross", { cross: model.lastCross });
  drawDraft();
  reveal(crossPlace());
  sayPlace();
}

// In the middle of the pixel that the crosshair is on.
function here() {
  const { x, y } = crossPlace();
  return { x: x + 0.5, y: y + 0.5 };
}

function drawDraft() {
  if (from === null) return;
  const { x, y } = here();
  if (model.tool === "box") {
    /** @type {import("./model.js").Box} */
    const box = [Math.min(from.x, x), Math.min(from.y, y), Math.max(from.x, x), Math.max(from.y, y)];
    draft.mark = { kind: "box", box };
  } else {
    draft.mark = { kind: "stroke", points: [...from.points, [x, y]], width: model.brush, label: from.label };
  }
  redraw();
}

/** @param {number} label */
function act(label) {
  const at = here();
  const cross = crossPlace();
  if (model.tool !== "box" && model.tool !== "brush") {
    mark({ kind: "point", ...at, label });
    say(`${label ? "Object" : "Background"} marked at ${cross.x}, ${cross.y}`);
    return;
  }
  if (!from) {
    from = { ...at, points: [[at.x, at.y]], label };
    drawDraft();
    say(`${model.tool === "box" ? "Box" : "Stroke"} begun; Enter ends it`);
    return;
  }
  const made = draft.mark;
  from = null;
  draft.mark = null;
  if (made === null || made.kind === "brush") return;
  mark(made);
  say(`${made.kind === "box" ? "Box" : "Stroke"} marked`);
}

// The point closest to the crosshair is taken away.
function removeNearest() {
  const { object, frame } = target();
  const points = model.state.objects.find((one) => one.id === object)?.frames[frame]?.points ?? [];
  if (!points.length) return;
  const cross = crossPlace();
  /** @param {import("./model.js").Point} point */
  const away = ([x, y]) => Math.hypot(x - cross.x, y - cross.y);
  const index = points.reduce((best, point, n) => (away(point) < away(points[best]) ? n : best), 0);
  edit("remove_prompt", { object, frame, kind: "points", index });
  say("The nearest point was removed");
}

/** @type {Record<string, number>} */
const STEPS = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 };

/**
 * A group of buttons of which one is chosen: arrows go from one to the next, as in any radio group.
 * @param {HTMLElement} element
 * @param {string} attribute
 * @param {() => string | number} read
 * @param {(value: string) => void} choose
 * @returns {() => void}  shows the choice again
 */
export function radioGroup(element, attribute, read, choose) {
  const buttons = [.../** @type {NodeListOf<HTMLElement>} */ (element.querySelectorAll("[role=radio]"))];
  /** @param {HTMLElement} button */
  const valueOf = (button) => button.dataset[attribute] ?? "";
  const show = () => {
    for (const button of buttons) {
      const isChosen = valueOf(button) === String(read());
      button.setAttribute("aria-checked", String(isChosen));
      button.tabIndex = isChosen ? 0 : -1;
    }
  };
  buttons.forEach((button, n) => {
    button.addEventListener("click", () => choose(valueOf(button)));
    button.addEventListener("keydown", (event) => {
      const by = STEPS[event.key];
      if (!by) return;
      const next = buttons[(n + by + buttons.length) % buttons.length];
      choose(valueOf(next));
      next.focus();
      event.preventDefault();
      event.stopPropagation();
    });
  });
  show();
  return show;
}

export function startKeys() {
  window.addEventListener("keydown", (event) => {
    if (["Tab", "Enter"].includes(event.key)) document.body.classList.add("by-keys");
    pressed(event);
  });
  window.addEventListener("pointerdown", () => document.body.classList.remove("by-keys"));
  byId("stage").addEventListener("blur", () => model.cross && leaveCross());
  emit("tool");
}
