// @ts-check
// Mouse, pen and fingers on the stage: marking, changing marks, moving, zooming, the wipe.

import { edit } from "./api.js";
import { byId, chosenObject, emit, marksOf, model, on, set } from "./model.js";
import { endTrials, tryEdit } from "./pictures.js";
import { draft, handlesOf, inside, isInside, moveBy, redraw, scale, toPicture, toScreen, wipeX, zoomBy } from "./stage.js";

/** @typedef {import("./model.js").Place} Place */
/** @typedef {import("./model.js").Box} Box */
/** @typedef {import("./model.js").Marks} Marks */
/** @typedef {import("./model.js").Selected} Selected */
/** @typedef {import("./stage.js").Draft} Draft */
/** @typedef {{kind: "point", label: number} & Place} NewPoint */
/**
 * What the pointer that began it does.
 * @typedef {{kind: "pinch"} | {kind: "move"} | {kind: "wipe"} | {kind: "stroke"} | {kind: "box", from: Place, at: Place}
 *   | {kind: "mark", hit: Hit, at: Place, from: Place, before: Marks}
 *   | {kind: "tap", at: Place, label: number, isTouch: boolean}} Drag
 */
/** @typedef {{kind: Selected["kind"], index: number, edges?: number[]}} Hit  a mark under the pointer */

const NEAR = 11; // screen pixels from a point that take hold of it
const NEAR_LINE = 6; // the same from a line
const TAP = 5; // screen pixels that a pointer may slip and still tap
const REPLACES = 16; // screen pixels from a point at which the opposite one takes its place

const canvas = byId("stage");
/** @type {Map<number, Place>} */
const fingers = new Map(); // pointers on the stage, by id
/** @type {Drag | null} */
let drag = null;
let isSpace = false;
let hasPanned = false;

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
  if (model.isResult) return;
  model.selected = null;
  if (made.kind === "point") {
    const near = rounded(REPLACES / scale());
    return edit("add_point", { ...target(), x: rounded(made.x), y: rounded(made.y), label: made.label, near });
  }
  if (made.kind === "box") return edit("set_box", { ...target(), box: made.box.map(rounded) });
  const points = made.points.map((point) => point.map(rounded));
  return edit("add_stroke", { ...target(), points, width: made.width, label: made.label });
}

// The mark that is chosen, if it is still there on this frame.
function selectedMark() {
  const one = model.selected;
  const marks = marksOf(chosenObject());
  if (one === null || marks === null || one.object !== chosenObject().id || one.frame !== model.frame) return null;
  return (one.kind === "box" ? marks.box !== null : one.index < marks[one.kind].length) ? one : null;
}

export function removeSelected() {
  const one = selectedMark();
  if (one === null) return false;
  const index = one.kind === "box" ? undefined : one.index;
  set("select", { selected: null });
  edit("remove_prompt", { ...target(), kind: one.kind, index });
  return true;
}

/** @param {Omit<Selected, "object" | "frame">} which */
export function select(which) {
  set("select", { selected: { ...which, ...target() } });
}

/**
 * @param {Place} at
 * @param {Place} from
 * @param {Place} to
 */
function fromLine(at, from, to) {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const along = Math.min(Math.max(((at.x - from.x) * dx + (at.y - from.y) * dy) / (dx * dx + dy * dy || 1), 0), 1);
  return Math.hypot(at.x - from.x - along * dx, at.y - from.y - along * dy);
}

/**
 * The mark of the chosen object under a place on the screen.
 * @param {Place} at
 * @returns {Hit | null}
 */
function hitAt(at) {
  const marks = marksOf(chosenObject());
  if (!marks || model.areMarksHidden) return null;
  const isPoint = model.tool === "point";
  const point = isPoint ? marks.points.findIndex(([x, y]) => {
    const shown = toScreen(x, y);
    return Math.hypot(shown.x - at.x, shown.y - at.y) <= NEAR;
  }) : -1;
  if (point >= 0) return { kind: "points", index: point };
  if (marks.box && model.tool !== "brush") {
    const handles = handlesOf(marks.box);
    const handle = handles.find(({ x, y }) => Math.hypot(x - at.x, y - at.y) <= NEAR - 2);
    if (handle) return { kind: "box", index: 0, edges: handle.edges };
    const corners = handles.slice(0, 4);
    const isOnEdge = corners.some((corner, n) => fromLine(at, corner, corners[(n + 1) % 4]) <= NEAR_LINE);
    if (isOnEdge) return { kind: "box", index: 0, edges: [0, 1, 2, 3] };
  }
  if (!isPoint) return null;
  const stroke = marks.strokes.findIndex(({ points }) => {
    const shown = points.map(([x, y]) => toScreen(x, y));
    return shown.some((corner, n) => fromLine(at, corner, shown[n + 1] ?? corner) <= NEAR_LINE);
  });
  return stroke >= 0 ? { kind: "strokes", index: stroke } : null;
}

/**
 * The marks with one of them moved.
 * @param {Marks} marks
 * @param {Hit} hit
 * @param {number} dx
 * @param {number} dy
 * @returns {Marks}
 */
function moved(marks, hit, dx, dy) {
  if (hit.kind === "points") {
    const points = marks.points.map((point, n) => {
      const to = inside({ x: point[0] + dx, y: point[1] + dy });
      return n === hit.index ? /** @type {import("./model.js").Point} */ ([to.x, to.y, point[2]]) : point;
    });
    return { ...marks, points };
  }
  if (hit.kind === "strokes") {
    const strokes = marks.strokes.map((stroke, n) => (n === hit.index ? { ...stroke, points: shifted(stroke.points, dx, dy) } : stroke));
    return { ...marks, strokes };
  }
  const box = /** @type {Box} */ ([.../** @type {Box} */ (marks.box)]);
  for (const edge of hit.edges ?? []) box[edge] += edge % 2 ? dy : dx;
  return { ...marks, box: [Math.min(box[0], box[2]), Math.min(box[1], box[3]), Math.max(box[0], box[2]), Math.max(box[1], box[3])] };
}

/**
 * @param {[number, number][]} points
 * @param {number} dx
 * @param {number} dy
 * @returns {[number, number][]}
 */
function shifted(points, dx, dy) {
  return points.map(([x, y]) => {
    const to = inside({ x: x + dx, y: y + dy });
    return [to.x, to.y];
  });
}

/**
 * The edit that moves a mark to where it is in `marks`.
 * @param {Hit} hit
 * @param {Marks} marks
 */
function movingEdit(hit, marks) {
  const values = { ...target(), index: hit.index };
  if (hit.kind === "points") {
    const [x, y] = marks.points[hit.index];
    return { op: "move_point", ...values, x: rounded(x), y: rounded(y) };
  }
  if (hit.kind === "strokes") {
    return { op: "move_stroke", ...values, points: marks.strokes[hit.index].points.map((point) => point.map(rounded)) };
  }
  return { op: "set_box", ...target(), box: /** @type {Box} */ (marks.box).map(rounded) };
}

/** @param {PointerEvent} event */
function begin(event) {
  const at = where(event);
  canvas.focus();
  fingers.set(event.pointerId, at);
  canvas.setPointerCapture(event.pointerId); // a drag goes on beside the stage
  // A second finger turns whatever the first began into zooming.
  if (fingers.size === 2) {
    drag = { kind: "pinch" };
    draft.mark = null;
    return;
  }
  if (model.isPlaying && !isSpace) emit("stop");
  const label = event.button === 2 || event.altKey ? 1 - model.label : model.label;
  if (model.wipe !== null && Math.abs(at.x - wipeX()) <= NEAR && event.button === 0) drag = { kind: "wipe" };
  else if (event.button === 1 || isSpace || model.tool === "hand" || model.isResult) drag = { kind: "move" };
  else drag = beginTool(event, at, label);
  hasPanned ||= isSpace;
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
  const hit = event.button === 0 && !event.altKey ? hitAt(at) : null;
  const before = marksOf(chosenObject());
  if (hit !== null && before !== null) return { kind: "mark", hit, at, from: spot, before };
  if (model.tool === "box") return { kind: "box", from: inside(spot), at };
  if (model.tool === "brush") {
    const first = inside(spot);
    draft.mark = { kind: "stroke", points: [[first.x, first.y]], width: model.brush, label };
    redraw();
    return { kind: "stroke" };
  }
  // A finger may want to move the picture: what it meant is known when it is lifted.
  return { kind: "tap", at, label, isTouch: event.pointerType === "touch" };
}

/** @param {PointerEvent} event */
function follow(event) {
  const at = where(event);
  readOut(at);
  const before = fingers.get(event.pointerId);
  if (!before || !drag) {
    hover(at);
    return;
  }
  if (drag.kind === "pinch") pinch(event.pointerId, at);
  fingers.set(event.pointerId, at);
  const spot = toPicture(at.x, at.y);
  if (drag.kind === "move") moveBy(at.x - before.x, at.y - before.y);
  if (drag.kind === "wipe") set("wipe", { wipe: Math.min(Math.max(at.x / canvas.getBoundingClientRect().width, 0), 1) });
  if (drag.kind === "tap" && drag.isTouch && Math.hypot(at.x - drag.at.x, at.y - drag.at.y) > TAP) drag = { kind: "move" };
  if (drag.kind === "stroke" && draft.mark?.kind === "stroke") followStroke(event, draft.mark);
  if (drag.kind === "mark" && (draft.moved || Math.hypot(at.x - drag.at.x, at.y - drag.at.y) > TAP)) {
    draft.moved = moved(drag.before, drag.hit, spot.x - drag.from.x, spot.y - drag.from.y);
    tryEdit(movingEdit(drag.hit, draft.moved));
    redraw();
  }
  if (drag.kind === "box" && Math.hypot(at.x - drag.at.x, at.y - drag.at.y) > TAP) {
    const { x, y } = inside(spot);
    const { from } = drag;
    draft.mark = { kind: "box", box: [Math.min(from.x, x), Math.min(from.y, y), Math.max(from.x, x), Math.max(from.y, y)] };
    redraw();
  }
}

/**
 * @param {PointerEvent} event
 * @param {{points: [number, number][]}} made
 */
function followStroke(event, made) {
  // A browser joins moves between two frames; a quick stroke would lose its corners.
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
  const made = draft.mark;
  const changed = draft.moved;
  const isGivenUp = event.type === "pointercancel";
  stopDragging(isGivenUp);
  if (isGivenUp || !done) return;
  if (done.kind === "tap") {
    const spot = toPicture(done.at.x, done.at.y);
    if (model.selected !== null) set("select", { selected: null });
    if (isInside(spot)) mark({ kind: "point", ...spot, label: done.label });
  }
  if (done.kind === "mark") endMark(done, changed);
  // What was drawn is sent whole, once: an edit is one step of undo.
  if (made?.kind === "box" && done.kind === "box") mark(made);
  if (made?.kind === "stroke" && done.kind === "stroke") mark(made);
}

/**
 * @param {Extract<Drag, {kind: "mark"}>} done
 * @param {Marks | null} changed
 */
function endMark({ hit }, changed) {
  select({ kind: hit.kind, index: hit.index });
  if (changed === null) return;
  // The moved mark is shown until the answer is here: it must not jump back in between.
  draft.moved = changed;
  const { op, ...values } = movingEdit(hit, changed);
  edit(op, values).then(() => {
    draft.moved = null;
    redraw();
  });
}

/** @param {boolean} isGivenUp  whether the mark goes back to where it was */
function stopDragging(isGivenUp) {
  if (draft.moved !== null) endTrials(isGivenUp);
  drag = null;
  draft.mark = null;
  draft.moved = null;
  canvas.classList.remove("moving");
  redraw();
}

// Give up what is being dragged; whether there was anything.
export function cancelDrag() {
  if (drag === null) return false;
  stopDragging(true);
  return true;
}

/** @param {Place} at */
function hover(at) {
  const hit = model.isResult || model.tool === "hand" ? null : hitAt(at);
  canvas.classList.toggle("over-mark", hit !== null);
  canvas.classList.toggle("over-wipe", model.wipe !== null && Math.abs(at.x - wipeX()) <= NEAR);
  if (model.tool !== "brush" || model.isResult) return;
  draft.mark = { kind: "brush", ...toPicture(at.x, at.y) };
  redraw();
}

/** @param {Place} at */
function readOut(at) {
  const spot = toPicture(at.x, at.y);
  byId("readout").textContent = isInside(spot) ? `${Math.floor(spot.x)}, ${Math.floor(spot.y)}` : "";
}

// While Space is held the picture is moved; pressed alone it plays.
export function holdSpace() {
  if (isSpace) return;
  isSpace = true;
  hasPanned = false;
  canvas.classList.add("hand");
}

/**
 * Let go of Space; whether it was pressed alone.
 */
export function releaseSpace() {
  const isAlone = isSpace && !hasPanned;
  isSpace = false;
  showTool();
  return isAlone;
}

function showTool() {
  canvas.classList.toggle("hand", model.tool === "hand" || model.isResult);
  byId("brush-size").hidden = model.tool !== "brush";
  byId("brush").value = String(model.brush);
  byId("brush-value").textContent = String(model.brush);
  if (draft.mark?.kind === "brush") draft.mark = null;
  redraw();
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
  on("tool result", showTool);
}
