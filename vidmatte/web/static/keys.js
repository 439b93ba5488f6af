// The keyboard: everything that the mouse can do.

import { edit, post } from "./api.js";
import { byId, emit, goTo, model, say, set } from "./model.js";
import { nextUnsure, setRange, togglePlay, togglePreview } from "./timeline.js";
import { draft, fit, inside, redraw, reveal, toScreen, zoomBy } from "./stage.js";
import { mark, target } from "./tools.js";

const VIEWS = ["source", "overlay", "alpha", "checker", "color"];
const TOOLS = { p: "point", b: "box", s: "brush", h: "hand" };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

let from = null; // where Enter began a box or a stroke

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

// Where zooming stays: at the crosshair, else in the middle.
function crossOnScreen() {
  if (!model.cross) return [];
  const { x, y } = toScreen(model.cross.x, model.cross.y);
  return [x, y];
}

function isTyping(element) {
  return element.matches("input:not([type=range]):not([type=checkbox]):not([type=radio]), textarea, select, [contenteditable]");
}

function pressed(event) {
  if (document.querySelector("dialog[open]") || isTyping(event.target)) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if ((event.ctrlKey || event.metaKey) && (key === "z" || key === "y")) {
    post(key === "y" || event.shiftKey ? "/api/redo" : "/api/undo");
  } else if (model.cross && event.target === byId("stage") && crossKey(event, key)) {
    redraw();
  } else if (event.ctrlKey || event.metaKey || event.altKey || !plainKey(event, key)) {
    return;
  }
  event.preventDefault();
}

function plainKey(event, key) {
  const onStage = event.target === byId("stage");
  // Arrows belong to what has the focus, where that is a choice or a slider.
  const isFree = onStage || !event.target.closest("[role=radiogroup], input");
  if (key in ARROWS && isFree && ARROWS[key][0]) goTo(model.frame + ARROWS[key][0] * (event.shiftKey ? 10 : 1));
  else if (key === "Home" && isFree) goTo(0);
  else if (key === "End" && isFree) goTo(model.clip.frames - 1);
  else if (key === "Enter" && onStage) showCross();
  else if ("12345".includes(key) && key.length === 1) set("view", { view: VIEWS[key - 1] });
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
  say(`${before}${Math.floor(model.cross.x)}, ${Math.floor(model.cross.y)}`);
}

// Keys while the crosshair is shown; whether this was one.
function crossKey(event, key) {
  if (key in ARROWS) moveCross(ARROWS[key], event.shiftKey ? 10 : event.ctrlKey ? 50 : 1);
  else if (key === "Escape") leaveCross();
  else if (key === "Enter" || key === " ") act(1);
  else if (key === "Backspace") act(0);
  else if (key === "Delete") removeNearest();
  else return false;
  return true;
}

function moveCross([dx, dy], by) {
  const moved = inside({ x: Math.floor(model.cross.x) + dx * by, y: Math.floor(model.cross.y) + dy * by });
  model.lastCross = { x: Math.floor(moved.x), y: Math.floor(moved.y) };
  set("cross", { cross: model.lastCross });
  if (from) drawDraft();
  reveal(model.cross);
  sayPlace();
}

// In the middle of the pixel that the crosshair is on.
function here() {
  return { x: model.cross.x + 0.5, y: model.cross.y + 0.5 };
}

function drawDraft() {
  const { x, y } = here();
  if (model.tool === "box") {
    const box = [Math.min(from.x, x), Math.min(from.y, y), Math.max(from.x, x), Math.max(from.y, y)];
    draft.mark = { kind: "box", box };
  } else {
    draft.mark = { kind: "stroke", points: [...from.points, [x, y]], width: model.brush, label: from.label };
  }
  redraw();
}

function act(label) {
  const at = here();
  if (model.tool !== "box" && model.tool !== "brush") {
    mark("point", { ...at, label });
    say(`${label ? "Object" : "Background"} marked at ${model.cross.x}, ${model.cross.y}`);
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
  mark(made.kind, made);
  say(`${made.kind === "box" ? "Box" : "Stroke"} marked`);
}

// The point closest to the crosshair is taken away.
function removeNearest() {
  const { object, frame } = target();
  const points = model.state.objects.find((one) => one.id === object).frames[frame]?.points ?? [];
  if (!points.length) return;
  const away = ([x, y]) => Math.hypot(x - model.cross.x, y - model.cross.y);
  const index = points.reduce((best, point, n) => (away(point) < away(points[best]) ? n : best), 0);
  edit("remove_prompt", { object, frame, kind: "points", index });
  say("The nearest point was removed");
}

// Groups of buttons of which one is chosen: arrows go from one to the next, as in any radio group.
export function radioGroup(element, attribute, read, choose) {
  const buttons = [...element.querySelectorAll("[role=radio]")];
  const show = () => {
    for (const button of buttons) {
      const isChosen = button.dataset[attribute] === String(read());
      button.setAttribute("aria-checked", isChosen);
      button.tabIndex = isChosen ? 0 : -1;
    }
  };
  buttons.forEach((button, n) => {
    button.addEventListener("click", () => choose(button.dataset[attribute]));
    button.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
      if (!by) return;
      const next = buttons[(n + by + buttons.length) % buttons.length];
      choose(next.dataset[attribute]);
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
