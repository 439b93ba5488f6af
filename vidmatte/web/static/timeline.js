// @ts-check
// The timeline: slider over thumbnails, curve of confidence, in and out point, playing, the preview.

import { edit, getJson, getPicture, post, tell } from "./api.js";
import { byId, clampFrame, contextOf, emit, firstFrame, goTo, lastFrame, model, numberOf, on, say, set } from "./model.js";
import { loadBoth, picture } from "./pictures.js";

const slider = byId("slider");
const strip = byId("strip");
const curve = byId("curve");
const APART = 10; // frames between suggestions: neighbours look alike

/** @type {{frame: number, bitmap: ImageBitmap}[]} */
let thumbnails = []; // from left to right

/** @param {HTMLCanvasElement} canvas */
function sizedContext(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const { width, height } = canvas.getBoundingClientRect();
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = contextOf(canvas);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return { context, width, height };
}

/**
 * @param {number} frame
 * @param {number} width
 */
function xOf(frame, width) {
  return model.clip.frames > 1 ? (frame / (model.clip.frames - 1)) * width : width / 2;
}

async function loadThumbnails() {
  const { width, height } = strip.getBoundingClientRect();
  const wide = Math.max(40, (height * model.clip.width) / model.clip.height);
  const count = Math.max(1, Math.min(Math.round(width / wide), model.clip.frames));
  const wanted = Array.from({ length: count }, (_, n) => clampFrame(((n + 0.5) / count) * model.clip.frames));
  /** @type {typeof thumbnails} */
  const loaded = [];
  for (const frame of wanted) {
    try {
      const answer = await getPicture(`/api/frame/${frame}?near=1`);
      if (answer !== null) loaded.push({ frame, bitmap: answer.bitmap });
    } catch (error) {
      tell(error);
      return;
    }
    thumbnails = [...loaded, ...thumbnails.slice(loaded.length)].slice(0, count);
    drawStrip();
  }
}

function drawStrip() {
  const { context, width, height } = sizedContext(strip);
  const each = width / Math.max(thumbnails.length, 1);
  thumbnails.forEach(({ bitmap }, n) => {
    const tall = Math.max(height, (each * bitmap.height) / bitmap.width);
    const wide = (tall * bitmap.width) / bitmap.height;
    context.save();
    context.beginPath();
    context.rect(n * each, 0, each + 0.5, height);
    context.clip();
    context.drawImage(bitmap, n * each + (each - wide) / 2, (height - tall) / 2, wide, tall);
    context.restore();
  });
  shadeOutside(context, width, height);
  for (const object of model.state?.objects ?? []) {
    for (const frame of Object.keys(object.frames)) drawReference(context, xOf(Number(frame), width), object.color);
  }
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number} at
 * @param {string} color
 */
function drawReference(context, at, color) {
  const x = Math.min(Math.max(at, 6), strip.clientWidth - 6);
  context.fillStyle = "#000a";
  context.fillRect(x - 3, 0, 6, 52);
  context.fillStyle = color;
  context.fillRect(x - 1.5, 0, 3, 52);
  context.beginPath();
  context.arc(x, 7, 5, 0, 2 * Math.PI);
  context.fill();
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number} width
 * @param {number} height
 */
function shadeOutside(context, width, height) {
  if (!model.state) return;
  const [left, right] = [xOf(firstFrame(), width), xOf(lastFrame(), width)];
  context.fillStyle = "#0b0c0ecc";
  if (firstFrame() > 0) context.fillRect(0, 0, left, height);
  if (lastFrame() < model.clip.frames - 1) context.fillRect(right, 0, width - right, height);
  context.fillStyle = "#6ab0ff";
  if (firstFrame() > 0) context.fillRect(left - 1, 0, 2, height);
  if (lastFrame() < model.clip.frames - 1) context.fillRect(right - 1, 0, 2, height);
}

function drawCurve() {
  const { context, width, height } = sizedContext(curve);
  const below = model.clip.suggested_below * 100;
  /** @param {number} value */
  const y = (value) => 3 + (height - 6) * (1 - value / 100);
  context.strokeStyle = "#454c58";
  context.setLineDash([4, 4]);
  context.beginPath();
  context.moveTo(0, y(below));
  context.lineTo(width, y(below));
  context.stroke();
  context.setLineDash([]);
  const known = model.curve.some((value) => value >= 0);
  if (!known) {
    context.fillStyle = "#a3acb9";
    context.font = "12px system-ui, sans-serif";
    context.fillText("Preview shows here how sure the model is of each frame", 10, height / 2 + 4);
  }
  drawConfidence(context, width, height, y, below);
  shadeOutside(context, width, height);
  const least = suggestions()[0];
  const text = known ? (least === undefined ? "the model is sure of every frame" : `least sure at frame ${numberOf(least)}`) : "not known before a preview";
  curve.setAttribute("aria-label", `Confidence of each frame: ${text}`);
}

/**
 * An area where the model is sure; what it is unsure of stands out.
 * @param {CanvasRenderingContext2D} context
 * @param {number} width
 * @param {number} height
 * @param {(value: number) => number} y
 * @param {number} below
 */
function drawConfidence(context, width, height, y, below) {
  const each = Math.max(width / model.clip.frames, 1);
  /** @param {number} frame */
  const left = (frame) => xOf(frame, width) - each / 2;
  for (const { isUnsure, fill, line } of [
    { isUnsure: false, fill: "#6ab0ff2e", line: "#6ab0ff" },
    { isUnsure: true, fill: "#ffb45466", line: "#ffb454" },
  ]) {
    const area = new Path2D();
    const top = new Path2D();
    model.curve.forEach((value, frame) => {
      if (value < 0 || value < below !== isUnsure) return;
      area.rect(left(frame), y(value), each, height - y(value));
      top.rect(left(frame), y(value) - 0.75, each, 1.5);
    });
    context.fillStyle = fill;
    context.fill(area);
    context.fillStyle = line;
    context.fill(top);
  }
}

// Frames that one more reference would help most, the least sure first.
function suggestions() {
  const marked = model.state.objects.flatMap((object) => Object.keys(object.frames).map(Number));
  /** @type {number[]} */
  const chosen = [];
  const unsure = model.curve.map((value, frame) => ({ value, frame }));
  for (const { frame } of unsure.filter(({ value }) => value >= 0 && value < model.clip.suggested_below * 100).sort((a, b) => a.value - b.value)) {
    if ([...marked, ...chosen].every((other) => Math.abs(other - frame) >= APART)) chosen.push(frame);
    if (chosen.length === 12) break;
  }
  return chosen;
}

export function nextUnsure() {
  const frames = suggestions().sort((a, b) => a - b);
  if (!frames.length) {
    say("No frame is worth marking that the model is unsure of");
    return;
  }
  goTo(frames.find((frame) => frame > model.frame) ?? frames[0]);
  say(`Frame ${numberOf(model.frame)}: the model is ${model.curve[model.frame]} % sure. Mark what is wrong.`);
}

/** @param {"start" | "end"} which */
export function setRange(which) {
  const range = { start: model.state.start, end: model.state.end, [which]: model.frame };
  if (which === "start" && range.end !== null && range.end < model.frame) range.end = null;
  if (which === "end" && (range.start ?? 0) > model.frame) range.start = null;
  edit("set_range", range);
}

export function togglePlay() {
  if (model.isPlaying) emit("stop");
  else play();
}

async function play() {
  set("play", { isPlaying: true });
  const last = lastFrame();
  let from = model.frame >= last || model.frame < firstFrame() ? firstFrame() : model.frame;
  let began = performance.now();
  while (model.isPlaying) {
    const due = from + Math.floor(((performance.now() - began) / 1000) * model.clip.frame_rate);
    if (due > last) {
      [from, began] = [firstFrame(), performance.now()];
      continue;
    }
    if (due !== model.frame || picture.frame !== due) {
      model.frame = due;
      try {
        await loadBoth(due);
      } catch (error) {
        tell(error);
        set("play", { isPlaying: false });
      }
      showFrame();
      emit("played");
    }
    await new Promise(requestAnimationFrame);
  }
}

export function togglePreview() {
  post("/api/preview", { on: !model.state.preview.on, frame: model.frame });
}

let curveOf = "";

// The curve and the mattes of the current frame, while a preview or a run computes them.
export async function followProgress() {
  const { preview, run, version } = model.state;
  const key = `${version} ${preview.on} ${preview.done} ${run?.state} ${run?.done}`;
  if (key === curveOf) return;
  curveOf = key;
  model.curve = (await getJson("/api/curve")).confidence;
  emit("progress");
  drawCurve();
  byId("unsure").disabled = !suggestions().length;
  showFrame();
}

function showFrame() {
  slider.value = String(model.frame);
  const seconds = model.frame / model.clip.frame_rate;
  slider.setAttribute("aria-valuetext", `frame ${numberOf(model.frame)}, ${model.frame + 1} of ${model.clip.frames}`);
  if (document.activeElement !== byId("frame")) byId("frame").value = String(numberOf(model.frame));
  byId("time").textContent = `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(2).padStart(5, "0")}`;
  const sure = model.curve[model.frame] ?? -1;
  byId("frame-confidence").textContent = sure < 0 ? "" : `confidence ${sure} %`;
}

let areThumbnailsExact = false;

function showState() {
  if (!areThumbnailsExact && model.state.kept >= model.clip.frames) {
    areThumbnailsExact = true;
    loadThumbnails();
  }
  const { preview, start, end } = model.state;
  const button = byId("preview");
  button.setAttribute("aria-pressed", String(preview.on));
  byId("preview-text").textContent = preview.error || (preview.on ? `${preview.done} of ${preview.total} frames` : "");
  byId("preview-text").classList.toggle("error", Boolean(preview.error));
  byId("range-text").textContent = start === null && end === null ? "" : `${firstFrame()} to ${lastFrame()}`;
  byId("clear-range").disabled = start === null && end === null;
  byId("unsure").disabled = !suggestions().length;
  drawStrip();
  drawCurve();
}

export function startTimeline() {
  slider.max = String(model.clip.frames - 1);
  byId("frame").min = String(numberOf(0));
  byId("frame").max = String(numberOf(model.clip.frames - 1));
  slider.addEventListener("input", () => {
    if (model.isPlaying) emit("stop");
    goTo(Number(slider.value));
  });
  byId("frame").addEventListener("change", () => goTo(Number(byId("frame").value) - model.clip.first_number));
  byId("previous").addEventListener("click", () => goTo(model.frame - 1));
  byId("next").addEventListener("click", () => goTo(model.frame + 1));
  byId("play").addEventListener("click", togglePlay);
  byId("preview").addEventListener("click", togglePreview);
  byId("unsure").addEventListener("click", nextUnsure);
  byId("set-in").addEventListener("click", () => setRange("start"));
  byId("set-out").addEventListener("click", () => setRange("end"));
  byId("clear-range").addEventListener("click", () => edit("set_range", { start: null, end: null }));
  on("frame", showFrame);
  on("state", showState);
  on("stop", () => {
    set("play", { isPlaying: false });
    emit("frame");
  });
  on("play", () => byId("play").setAttribute("aria-label", model.isPlaying ? "Stop" : "Play"));
  on("play", () => byId("play").querySelector("path")?.setAttribute("d", model.isPlaying ? "M6 5h4v14H6zM14 5h4v14h-4z" : "M7 4v16l13-8z"));
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  new ResizeObserver(() => {
    drawStrip();
    if (model.state) drawCurve();
    clearTimeout(timer);
    timer = setTimeout(loadThumbnails, 200);
  }).observe(strip);
  showFrame();
}
