// @ts-check
// Mouse, pen and fingers on the stage: points, boxes, strokes, moving and zooming.

import { edit } from "./api.js";
import { byId, chosenObject, emit, marksOf, model, on } from "./model.js";
import { draft, inside, isInside, moveBy, redraw, scale, toPicture, toScreen, zoomBy } from "./stage.js";

/** @typedef {import("./model.js").Place} Place */
/** @typedef {import("./stage.js").Draft} Draft */
/** @typedef {{kind: "point", label: number} & Place} NewPoint */
/**
 * What the pointer that began it does.
 * @typedef {{kind: "pinch"} | {kind: "move"} | {kind: "stroke"} | {kind: "box", from: Place, at: Place}
 *   | {kind: "point", index: number, at: Place, to?: Place}
 *   | {kind: "tap", at: Place, label: number, isTouch: boolean}} Drag
 */

const NEAR = 11; // screen pixels from a point that take hold of it
const TAP = 5; // screen pixels that a finger may slip and still tap

const canvas = byId("stage");
/** @type {Map<number, Place>} */
const fingers = new Map(); // pointers on the stage, by id
/** @type {Drag | null} */
let drag = null;
let isSpace = false;

/**
 * @param {MouseEvent} event
 * @returns {Place}
 */
function where(event) {
  const bounds = canvas.getBoundingClientRect();
  return { x: event.clientX - bounds.left, y: event.clientY - bounds.top };
}

/** @param {number} value */
function rounded(value) {
  return Math.round(value * 100) / 100;
}

export function target() {
  return { object: chosenObject().id, frame: model.frame };
}

/** @param {NewPoint | Exclude<Draft, {kind: "brush"}>} made */
export function mark(made) {
  if (made.kind === "point") return edit("add_point", { ...target(), x: rounded(made.x), y: rounded(made.y), label: made.label });
  if (made.kind === "box") return edit("set_box", { ...target(), box: made.box.map(rounded) });
  const points = made.points.map((point) => point.map(rounded));
  return edit("add_stroke", { ...target(), points, width: made.width, label: made.label });
}

/**
 * The point of the chosen object under a place on the screen.
 * @param {Place} at
 */
function pointAt(at) {
  const points = marksOf(chosenObject())?.points ?? [];
  const index = points.findIndex(([x, y]) => {
    const shown = toScreen(x, y);
    return Math.hypot(shown.x - at.x, shown.y - at.y) <= NEAR;
  });
  return index < 0 ? null : index;
}

/** @param {PointerEvent} event */
function begin(event) {
  const at = where(event);
  canvas.focus();
  fingers.set(event.pointerId, at);
  canvas.setPointerCapture(event.pointerId);
  if (fingers.size === 2) {
    drag = { kind: "pinch" };
    draft.mark = null;
    return;
  }
  if (model.isPlaying) emit("stop");
  const label = event.button === 2 || event.altKey ? 1 - model.label : model.label;
  if (event.button === 1 || isSpace || model.tool === "hand") drag = { kind: "move" };
  else drag = beginTool(event, at, label);
  canvas.classList.toggle("moving", drag?.kind === "move");
  event.preventDefault();
}

/**
 * @param {PointerEvent} event
 * @param {Place} at
 * @param {number} label
 * @returns {Drag}
 */
function beginTool(event, at, label) {
  const spot = toPicture(at.x, at.y);
  if (model.tool === "box") return { kind: "box", from: inside(spot), at };
  if (model.tool === "brush") {
    const first = inside(spot);
    draft.mark = { kind: "stroke", points: [[first.x, first.y]], width: model.brush, label };
    redraw();
    return { kind: "stroke" };
  }
  const index = event.button === 0 && !event.altKey ? pointAt(at) : null;
  if (index !== null) return { kind: "point", index, at };
  // A finger may want to move the picture: what it meant is known when it is lifted.
  return { kind: "tap", at, label, isTouch: event.pointerType === "touch" };
}

/** @param {PointerEvent} event */
function follow(event) {
  const at = where(event);
  readOut(at);
  const before = fingers.get(event.pointerId);
  if (before === undefined) {
    hover(at);
    return;
  }
  if (drag?.kind === "pinch") pinch(event.pointerId, at);
  fingers.set(event.pointerId, at);
  if (drag?.kind === "move") moveBy(at.x - before.x, at.y - before.y);
  if (drag?.kind === "tap" && drag.isTouch && Math.hypot(at.x - drag.at.x, at.y - drag.at.y) > TAP) drag = { kind: "move" };
  if (drag?.kind === "box") dragBox(drag.from, at);
  if (drag?.kind === "stroke") dragStroke(event);
  if (drag?.kind === "point") drag.to = inside(toPicture(at.x, at.y));
}

/**
 * @param {Place} from
 * @param {Place} at
 */
function dragBox(from, at) {
  const to = inside(toPicture(at.x, at.y));
  const [left, right] = [Math.min(from.x, to.x), Math.max(from.x, to.x)];
  const [top, bottom] = [Math.min(from.y, to.y), Math.max(from.y, to.y)];
  draft.mark = { kind: "box", box: [left, top, right, bottom] };
  redraw();
}

/** @param {PointerEvent} event */
function dragStroke(event) {
  const made = draft.mark;
  if (made?.kind !== "stroke") return;
  const events = event.getCoalescedEvents?.() ?? [event];
  for (const one of events.length ? events : [event]) {
    const at = where(one);
    const { x, y } = inside(toPicture(at.x, at.y));
    const [lastX, lastY] = made.points[made.points.length - 1];
    // Closer corners than this cannot be seen, and only make the file longer.
    if (Math.hypot(x - lastX, y - lastY) >= Math.max(1, 1.5 / scale())) made.points.push([x, y]);
  }
  redraw();
}

/**
 * @param {number} moved
 * @param {Place} at
 */
function pinch(moved, at) {
  const other = [...fingers].find(([key]) => key !== moved)?.[1];
  const before = fingers.get(moved);
  if (other === undefined || before === undefined) return;
  const middle = { x: (at.x + other.x) / 2, y: (at.y + other.y) / 2 };
  const factor = Math.hypot(at.x - other.x, at.y - other.y) / Math.max(1, Math.hypot(before.x - other.x, before.y - other.y));
  moveBy((at.x - before.x) / 2, (at.y - before.y) / 2);
  zoomBy(factor, middle.x, middle.y);
}

/** @param {PointerEvent} event */
function end(event) {
  if (!fingers.delete(event.pointerId)) return;
  const done = drag;
  if (done?.kind === "pinch" && fingers.size) return;
  drag = null;
  canvas.classList.remove("moving");
  const made = draft.mark;
  draft.mark = null;
  redraw();
  if (event.type === "pointercancel" || !done) return;
  if (done.kind === "tap") {
    const spot = toPicture(done.at.x, done.at.y);
    if (isInside(spot)) mark({ kind: "point", ...spot, label: done.label });
  }
  if (done.kind === "point" && done.to) edit("move_point", { ...target(), index: done.index, x: rounded(done.to.x), y: rounded(done.to.y) });
  if (made?.kind === "box" && done.kind === "box") mark(made);
  if (made?.kind === "stroke" && done.kind === "stroke") mark(made);
}

/** @param {Place} at */
function hover(at) {
  if (model.tool !== "brush") return;
  draft.mark = { kind: "brush", ...toPicture(at.x, at.y) };
  redraw();
}

/** @param {Place} at */
function readOut(at) {
  const spot = toPicture(at.x, at.y);
  byId("readout").textContent = isInside(spot) ? `${Math.floor(spot.x)}, ${Math.floor(spot.y)}` : "";
}

export function startTools() {
  canvas.addEventListener("pointerdown", begin);
  canvas.addEventListener("pointermove", follow);
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("pointerleave", () => {
    byId("readout").textContent = "";
    if (draft.mark?.kind === "brush") draft.mark = null;
    redraw();
  });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => {
    const at = where(event);
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 30 : 1;
    zoomBy(Math.exp(-event.deltaY * lines * 0.0016), at.x, at.y);
    event.preventDefault();
  }, { passive: false });
  window.addEventListener("keydown", (event) => {
    if (event.code !== "Space" || event.target !== canvas || model.cross) return;
    isSpace = true;
    canvas.classList.add("hand");
    event.preventDefault();
  });
  window.addEventListener("keyup", (event) => {
    if (event.code !== "Space") return;
    isSpace = false;
    canvas.classList.toggle("hand", model.tool === "hand");
  });
  on("tool", () => {
    canvas.classList.toggle("hand", model.tool === "hand");
    byId("brush-size").hidden = model.tool !== "brush";
    byId("brush").value = String(model.brush);
    byId("brush-value").textContent = String(model.brush);
    if (draft.mark?.kind === "brush") draft.mark = null;
    redraw();
  });
}
