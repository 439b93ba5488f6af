// @ts-check
// The stage: where the picture lies, zoomed and moved, and the marks on it.

import { compose } from "./composite.js";
import { byId, chosenObject, contextOf, marksOf, model, on } from "./model.js";
import { picture } from "./pictures.js";

/** @typedef {import("./model.js").Place} Place */
/** @typedef {import("./model.js").Box} Box */
/** @typedef {import("./model.js").Stroke} Stroke */
/**
 * What is being dragged, drawn before it is a mark.
 * @typedef {{kind: "box", box: Box} | {kind: "stroke"} & Stroke | {kind: "brush"} & Place} Draft
 */

const LARGEST = 64; // screen pixels for one of the picture
const SHARP = 2; // from this scale on single pixels are shown

const canvas = byId("stage");
const context = contextOf(canvas);
const composed = new OffscreenCanvas(1, 1);
const place = { scale: 1, x: 0, y: 0, isFitted: true };

export const draft = { mark: /** @type {Draft | null} */ (null) };

/**
 * @param {number} x
 * @param {number} y
 * @returns {Place}
 */
export function toPicture(x, y) {
  return { x: (x - place.x) / place.scale, y: (y - place.y) / place.scale };
}

/**
 * @param {number} x
 * @param {number} y
 * @returns {Place}
 */
export function toScreen(x, y) {
  return { x: x * place.scale + place.x, y: y * place.scale + place.y };
}

export function scale() {
  return place.scale;
}

/** @param {Place} place */
export function isInside({ x, y }) {
  return x >= 0 && y >= 0 && x < model.clip.width && y < model.clip.height;
}

/**
 * @param {Place} place
 * @returns {Place}
 */
export function inside({ x, y }) {
  const { width, height } = model.clip;
  return { x: Math.min(Math.max(x, 0), width - 0.01), y: Math.min(Math.max(y, 0), height - 0.01) };
}

function fittedScale() {
  const { width, height } = canvas.getBoundingClientRect();
  return Math.min((width - 24) / model.clip.width, (height - 24) / model.clip.height);
}

export function fit() {
  const { width, height } = canvas.getBoundingClientRect();
  place.scale = Math.max(fittedScale(), 0.01);
  place.x = (width - model.clip.width * place.scale) / 2;
  place.y = (height - model.clip.height * place.scale) / 2;
  place.isFitted = true;
  changed();
}

/**
 * Zoom, around a place of the screen or its middle.
 * @param {number} factor
 * @param {number} [x]
 * @param {number} [y]
 */
export function zoomBy(factor, x, y) {
  const { width, height } = canvas.getBoundingClientRect();
  const at = toPicture(x ?? width / 2, y ?? height / 2);
  place.scale = Math.min(Math.max(place.scale * factor, fittedScale() / 4), LARGEST);
  place.x = (x ?? width / 2) - at.x * place.scale;
  place.y = (y ?? height / 2) - at.y * place.scale;
  place.isFitted = false;
  changed();
}

/**
 * @param {number} dx
 * @param {number} dy
 */
export function moveBy(dx, dy) {
  place.x += dx;
  place.y += dy;
  place.isFitted = false;
  changed();
}

/**
 * Bring a place of the picture into sight, for the keyboard.
 * @param {Place} point
 */
export function reveal(point) {
  const { width, height } = canvas.getBoundingClientRect();
  const at = toScreen(point.x, point.y);
  const margin = 30;
  const dx = Math.min(width - margin - at.x, 0) + Math.max(margin - at.x, 0);
  const dy = Math.min(height - margin - at.y, 0) + Math.max(margin - at.y, 0);
  if (dx || dy) moveBy(dx, dy);
}

function changed() {
  byId("zoom").textContent = place.isFitted ? "Fit" : `${Math.round(place.scale * 100)} %`;
  redraw();
}

let isAsked = false;

export function redraw() {
  if (isAsked) return;
  isAsked = true;
  requestAnimationFrame(() => {
    isAsked = false;
    draw();
  });
}

export function recompose() {
  if (picture.image === null) return;
  const mattes = picture.mattesOf === picture.frame ? picture.mattes : [];
  compose(composed, picture.image, mattes, model.view, model.backdrop);
  redraw();
}

function draw() {
  const ratio = window.devicePixelRatio || 1;
  const { width, height } = canvas.getBoundingClientRect();
  const size = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  if (!model.clip || picture.image === null) return;
  context.imageSmoothingEnabled = place.scale < SHARP || !picture.isFull;
  context.imageSmoothingQuality = "high";
  const [wide, tall] = [model.clip.width * place.scale, model.clip.height * place.scale];
  context.drawImage(composed, place.x, place.y, wide, tall);
  drawMarks();
  if (draft.mark) drawDraft(draft.mark);
  if (model.cross) drawCross(model.cross);
}

function drawMarks() {
  if (picture.frame !== model.frame || model.isPlaying) return;
  const chosen = chosenObject();
  for (const object of model.state.objects) {
    const marks = marksOf(object);
    if (!marks || model.hidden.has(object.id)) continue;
    context.globalAlpha = object === chosen ? 1 : 0.4;
    for (const stroke of marks.strokes) drawStroke(stroke, 0.45);
    if (marks.box) drawBox(marks.box, object.color);
    for (const point of marks.points) drawPoint(point, object.color);
    context.globalAlpha = 1;
  }
}

/**
 * @param {import("./model.js").Point} point
 * @param {string} color
 */
function drawPoint([x, y, label], color) {
  const at = toScreen(x, y);
  context.beginPath();
  context.arc(at.x, at.y, 7, 0, 2 * Math.PI);
  context.fillStyle = label ? "#6fdc8c" : "#ff8080";
  context.fill();
  context.lineWidth = 2;
  context.strokeStyle = label ? color : "#fff";
  context.stroke();
  context.beginPath();
  context.moveTo(at.x - 3.5, at.y);
  context.lineTo(at.x + 3.5, at.y);
  if (label) {
    context.moveTo(at.x, at.y - 3.5);
    context.lineTo(at.x, at.y + 3.5);
  }
  context.strokeStyle = "#0b1016";
  context.stroke();
}

/**
 * @param {Stroke} stroke
 * @param {number} opacity
 */
function drawStroke({ points, width, label }, opacity) {
  context.save();
  context.globalAlpha *= opacity;
  context.strokeStyle = label ? "#6fdc8c" : "#ff8080";
  context.lineWidth = Math.max(width * place.scale, 1);
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  points.forEach(([x, y], n) => {
    const at = toScreen(x, y);
    if (n === 0) context.moveTo(at.x, at.y);
    context.lineTo(at.x + (n === 0 ? 0.01 : 0), at.y);
  });
  context.stroke();
  context.restore();
}

/**
 * @param {Box} box
 * @param {string} color
 */
function drawBox([x0, y0, x1, y1], color) {
  const [from, to] = [toScreen(x0, y0), toScreen(x1, y1)];
  /** @type {Box} */
  const rectangle = [from.x, from.y, to.x - from.x, to.y - from.y];
  context.lineWidth = 3;
  context.strokeStyle = "#000a";
  context.strokeRect(...rectangle);
  context.lineWidth = 1.5;
  context.strokeStyle = color;
  context.setLineDash([7, 5]);
  context.strokeRect(...rectangle);
  context.setLineDash([]);
}

/** @param {Draft} mark */
function drawDraft(mark) {
  if (mark.kind === "box") drawBox(mark.box, "#ffffff");
  if (mark.kind === "stroke") drawStroke(mark, 0.6);
  if (mark.kind === "brush") {
    const at = toScreen(mark.x, mark.y);
    context.beginPath();
    context.arc(at.x, at.y, Math.max((model.brush / 2) * place.scale, 1), 0, 2 * Math.PI);
    context.lineWidth = 1.5;
    context.strokeStyle = "#ffffff";
    context.stroke();
  }
}

/** @param {Place} place */
function drawCross({ x, y }) {
  const { width, height } = canvas.getBoundingClientRect();
  const at = toScreen(Math.floor(x) + 0.5, Math.floor(y) + 0.5);
  for (const { color, line } of [{ color: "#000", line: 3 }, { color: "#fff", line: 1 }]) {
    context.strokeStyle = color;
    context.lineWidth = line;
    context.beginPath();
    for (const [x0, y0, x1, y1] of [[0, at.y, at.x - 8, at.y], [at.x + 8, at.y, width, at.y], [at.x, 0, at.x, at.y - 8], [at.x, at.y + 8, at.x, height]]) {
      context.moveTo(x0, y0);
      context.lineTo(x1, y1);
    }
    context.stroke();
  }
}

on("picture view", () => {
  recompose();
  canvas.classList.toggle("near", picture.isNear);
});
on("state object frame cross", redraw);
new ResizeObserver(() => model.clip && (place.isFitted ? fit() : redraw())).observe(canvas);
