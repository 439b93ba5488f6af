// @ts-check
// The stage: where the picture lies, zoomed and moved, and the marks on it.

import { compose, despilled } from "./composite.js";
import { byId, chosenObject, contextOf, marksOf, model, on } from "./model.js";
import { picture } from "./pictures.js";

/** @typedef {import("./model.js").Place} Place */
/** @typedef {import("./model.js").Box} Box */
/** @typedef {import("./model.js").Stroke} Stroke */
/** @typedef {import("./model.js").Marks} Marks */
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

// What is drawn while it is dragged: a new mark, or the marks of the frame with one of them moved.
export const draft = { mark: /** @type {Draft | null} */ (null), moved: /** @type {Marks | null} */ (null) };

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

/** @type {import("./model.js").View[]} */
const IN_COLOR = ["checker", "color", "picture"];
/** @type {{image: object | null, how: string, result: OffscreenCanvas | null}} */
const clean = { image: null, how: "", result: null };

// The picture without the light of a screen, if that is asked for.
function cleanImage() {
  const image = /** @type {ImageBitmap} */ (picture.image);
  const { despill, despill_strength: strength } = model.state.edge;
  if (despill === null || !IN_COLOR.includes(model.view)) return image;
  const how = `${despill} ${strength}`;
  if (clean.image !== image || clean.how !== how) Object.assign(clean, { image, how, result: despilled(image, despill, strength) });
  return clean.result ?? image;
}

export function recompose() {
  if (picture.image === null || !model.state) return;
  const mattes = picture.mattesOf === picture.frame ? picture.mattes : [];
  const view = model.view === "difference" && !model.isResult ? "overlay" : model.view;
  compose(composed, cleanImage(), mattes, view, { color: model.backdrop, picture: model.backPicture });
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
  if (model.wipe !== null) drawWipe(width, height, picture.image);
  if (!model.isResult) drawMarks();
  if (draft.mark) drawDraft(draft.mark);
  if (model.cross) drawCross(model.cross);
}

export function wipeX() {
  return model.wipe === null ? -1 : model.wipe * canvas.getBoundingClientRect().width;
}

/**
 * The source on the left of a line.
 * @param {number} width
 * @param {number} height
 * @param {ImageBitmap} source
 */
function drawWipe(width, height, source) {
  const x = wipeX();
  context.save();
  context.beginPath();
  context.rect(0, 0, x, height);
  context.clip();
  context.drawImage(source, place.x, place.y, model.clip.width * place.scale, model.clip.height * place.scale);
  context.restore();
  context.fillStyle = "#000a";
  context.fillRect(x - 2, 0, 4, height);
  context.fillStyle = "#fff";
  context.fillRect(x - 1, 0, 2, height);
}

function drawMarks() {
  if (picture.frame !== model.frame || model.isPlaying || model.areMarksHidden) return;
  const chosen = chosenObject();
  for (const object of model.state.objects) {
    const isChosen = object === chosen;
    const marks = (isChosen ? draft.moved : null) ?? marksOf(object);
    if (!marks || model.hidden.has(object.id)) continue;
    context.globalAlpha = isChosen ? 1 : 0.4;
    /**
     * @param {string} kind
     * @param {number} index
     */
    const isSelected = (kind, index) => isChosen && model.selected?.kind === kind && model.selected.index === index;
    marks.strokes.forEach((stroke, n) => drawStroke(stroke, isSelected("strokes", n) ? 0.8 : 0.45));
    if (marks.box) {
      drawBox(marks.box, object.color);
      if (isChosen) drawHandles(marks.box, isSelected("box", 0));
    }
    marks.points.forEach((point, n) => {
      if (isSelected("points", n)) drawRing(point);
      drawPoint(point, object.color);
    });
    context.globalAlpha = 1;
  }
}

/**
 * The places of a box that change it, by the edges that they move.
 * @param {Box} box
 * @returns {{x: number, y: number, edges: number[]}[]}
 */
export function handlesOf([x0, y0, x1, y1]) {
  const [from, to] = [toScreen(x0, y0), toScreen(x1, y1)];
  const [x, y] = [(from.x + to.x) / 2, (from.y + to.y) / 2];
  return [
    { x: from.x, y: from.y, edges: [0, 1] }, { x: to.x, y: from.y, edges: [2, 1] },
    { x: to.x, y: to.y, edges: [2, 3] }, { x: from.x, y: to.y, edges: [0, 3] },
    { x: from.x, y, edges: [0] }, { x, y: from.y, edges: [1] }, { x: to.x, y, edges: [2] }, { x, y: to.y, edges: [3] },
  ];
}

/**
 * @param {Box} box
 * @param {boolean} isSelected
 */
function drawHandles(box, isSelected) {
  const reach = isSelected ? 5 : 4;
  for (const { x, y } of handlesOf(box)) {
    context.fillStyle = "#000a";
    context.fillRect(x - reach - 1, y - reach - 1, 2 * reach + 2, 2 * reach + 2);
    context.fillStyle = isSelected ? "#6ab0ff" : "#fff";
    context.fillRect(x - reach, y - reach, 2 * reach, 2 * reach);
  }
}

/** @param {import("./model.js").Point} point */
function drawRing([x, y]) {
  const at = toScreen(x, y);
  context.beginPath();
  context.arc(at.x, at.y, 12, 0, 2 * Math.PI);
  context.lineWidth = 2.5;
  context.strokeStyle = "#6ab0ff";
  context.stroke();
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

let despillShown = "";

on("picture view result", () => {
  recompose();
  canvas.classList.toggle("near", picture.isNear);
});
on("state", () => {
  const { despill, despill_strength: strength } = model.state.edge;
  const how = `${despill} ${strength}`;
  if (how === despillShown) return;
  despillShown = how;
  recompose();
});
on("state object frame cross select marks wipe", redraw);
new ResizeObserver(() => model.clip && (place.isFitted ? fit() : redraw())).observe(canvas);
