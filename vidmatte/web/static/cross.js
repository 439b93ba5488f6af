// @ts-check
// The crosshair: marks with the keyboard whatever the mouse can mark.

import { edit } from "./api.js";
import { byId, model, say, set } from "./model.js";
import { draft, inside, redraw, reveal, toScreen } from "./stage.js";
import { mark, target } from "./tools.js";

/** @typedef {import("./model.js").Place} Place */

/**
 * Where Enter began a box or a stroke.
 * @type {Place & {points: [number, number][], label: number} | null}
 */
let from = null;

/**
 * Where zooming stays: at the crosshair, else in the middle.
 * @returns {[number, number] | []}
 */
export function crossOnScreen() {
  if (!model.cross) return [];
  const { x, y } = toScreen(model.cross.x, model.cross.y);
  return [x, y];
}

export function showCross() {
  if (model.isResult) return;
  byId("stage").focus();
  const { width, height } = model.clip;
  model.lastCross ??= { x: Math.floor(width / 2), y: Math.floor(height / 2) };
  set("cross", { cross: model.lastCross });
  sayPlace("Crosshair at ");
}

export function leaveCross() {
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
 * @param {[number, number]} direction
 * @param {number} by
 */
export function moveCross([dx, dy], by) {
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
export function act(label) {
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
export function removeNearest() {
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
