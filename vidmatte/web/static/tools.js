// Mouse, pen and fingers on the stage: points, boxes, strokes, moving and zooming.

import { edit } from "./api.js";
import { byId, chosenObject, emit, marksOf, model, on } from "./model.js";
import { draft, inside, isInside, moveBy, redraw, scale, toPicture, toScreen, zoomBy } from "./stage.js";

const NEAR = 11; // screen pixels from a point that take hold of it
const TAP = 5; // screen pixels that a finger may slip and still tap

const canvas = byId("stage");
const fingers = new Map(); // pointers on the stage, by id
let drag = null; // {kind, ...} of the pointer that began it
let isSpace = false;

function where(event) {
  const bounds = canvas.getBoundingClientRect();
  return { x: event.clientX - bounds.left, y: event.clientY - bounds.top };
}

function rounded(value) {
  return Math.round(value * 100) / 100;
}

export function target() {
  return { object: chosenObject().id, frame: model.frame };
}

export function mark(kind, values) {
  if (kind === "point") return edit("add_point", { ...target(), x: rounded(values.x), y: rounded(values.y), label: values.label });
  if (kind === "box") return edit("set_box", { ...target(), box: values.box.map(rounded) });
  const points = values.points.map((point) => point.map(rounded));
  return edit("add_stroke", { ...target(), points, width: values.width, label: values.label });
}

// The point of the chosen object under a place on the screen.
function pointAt(at) {
  const points = marksOf(chosenObject())?.points ?? [];
  const index = points.findIndex(([x, y]) => {
    const shown = toScreen(x, y);
    return Math.hypot(shown.x - at.x, shown.y - at.y) <= NEAR;
  });
  return index < 0 ? null : index;
}

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
  if (drag?.kind === "box") dragBox(at);
  if (drag?.kind === "stroke") dragStroke(event);
  if (drag?.kind === "point") drag.to = inside(toPicture(at.x, at.y));
}

function dragBox(at) {
  const to = inside(toPicture(at.x, at.y));
  const [x0, x1] = [drag.from.x, to.x].sort((a, b) => a - b);
  const [y0, y1] = [drag.from.y, to.y].sort((a, b) => a - b);
  draft.mark = { kind: "box", box: [x0, y0, x1, y1] };
  redraw();
}

function dragStroke(event) {
  const events = event.getCoalescedEvents?.() ?? [event];
  for (const one of events.length ? events : [event]) {
    const at = where(one);
    const { x, y } = inside(toPicture(at.x, at.y));
    const [lastX, lastY] = draft.mark.points.at(-1);
    // Closer corners than this cannot be seen, and only make the file longer.
    if (Math.hypot(x - lastX, y - lastY) >= Math.max(1, 1.5 / scale())) draft.mark.points.push([x, y]);
  }
  redraw();
}

function pinch(moved, at) {
  const [id, other] = [...fingers].find(([key]) => key !== moved) ?? [];
  if (id === undefined) return;
  const before = fingers.get(moved);
  const middle = { x: (at.x + other.x) / 2, y: (at.y + other.y) / 2 };
  const factor = Math.hypot(at.x - other.x, at.y - other.y) / Math.max(1, Math.hypot(before.x - other.x, before.y - other.y));
  moveBy((at.x - before.x) / 2, (at.y - before.y) / 2);
  zoomBy(factor, middle.x, middle.y);
}

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
    if (isInside(spot)) mark("point", { ...spot, label: done.label });
  }
  if (done.kind === "point" && done.to) edit("move_point", { ...target(), index: done.index, x: rounded(done.to.x), y: rounded(done.to.y) });
  if (made && done.kind === "box") mark("box", made);
  if (made && done.kind === "stroke") mark("stroke", made);
}

function hover(at) {
  if (model.tool !== "brush") return;
  draft.mark = { kind: "brush", ...toPicture(at.x, at.y) };
  redraw();
}

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
    byId("brush").value = model.brush;
    byId("brush-value").textContent = model.brush;
    if (draft.mark?.kind === "brush") draft.mark = null;
    redraw();
  });
}
