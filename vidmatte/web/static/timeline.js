// @ts-check
// The timeline: slider over thumbnails, a lane of confidence for each object, in and out point, the preview.

import { edit, getJson, getPicture, post, tell } from "./api.js";
import { byId, clampFrame, contextOf, emit, firstFrame, goTo, lastFrame, model, numberOf, on, say } from "./model.js";
import { startPlayer, togglePlay } from "./player.js";

const slider = byId("slider");
const strip = byId("strip");
const curve = byId("curve");
const APART = 10; // frames between suggestions: neighbours look alike
const FEWEST = 20; // frames that the timeline shows at least

export { playBackward, playForward, stopPlaying, togglePlay } from "./player.js";

/** @type {{frame: number, bitmap: ImageBitmap}[]} */
let thumbnails = []; // from left to right

// The frames that the timeline shows.
const span = { from: 0, to: 0 };

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
  return span.to > span.from ? ((frame - span.from) / (span.to - span.from)) * width : width / 2;
}

/**
 * Show fewer or more frames, around the current one.
 * @param {number} factor
 */
export function zoomTime(factor, around = model.frame) {
  const most = model.clip.frames - 1;
  const shown = Math.min(Math.max(Math.round((span.to - span.from) * factor), Math.min(FEWEST, most)), most);
  const share = span.to > span.from ? (around - span.from) / (span.to - span.from) : 0.5;
  showSpan(around - share * shown, shown);
}

/**
 * @param {number} from
 * @param {number} shown
 */
function showSpan(from, shown) {
  const most = model.clip.frames - 1;
  span.from = Math.round(Math.min(Math.max(from, 0), most - shown));
  span.to = span.from + shown;
  // The slider has the frames that are shown: its thumb lies under the pointer at every zoom.
  [slider.min, slider.max, slider.value] = [String(span.from), String(span.to), String(model.frame)];
  byId("time-in").disabled = shown <= Math.min(FEWEST, most);
  byId("time-out").disabled = shown >= most;
  drawStrip();
  if (model.state) drawCurve();
  askThumbnails();
}

// A timeline that shows a part goes along with the frame.
function keepInSight() {
  const shown = span.to - span.from;
  if (model.frame < span.from || model.frame > span.to) showSpan(model.frame - shown / 2, shown);
}

let asked = 0;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let thumbnailTimer;

function askThumbnails() {
  clearTimeout(thumbnailTimer);
  thumbnailTimer = setTimeout(loadThumbnails, 200);
}

async function loadThumbnails() {
  asked += 1;
  const mine = asked;
  const { width, height } = strip.getBoundingClientRect();
  const wide = Math.max(40, (height * model.clip.width) / model.clip.height);
  const many = span.to - span.from + 1;
  const count = Math.max(1, Math.min(Math.round(width / wide), many));
  const wanted = Array.from({ length: count }, (_, n) => clampFrame(span.from + ((n + 0.5) / count) * many - 0.5));
  /** @type {typeof thumbnails} */
  const loaded = [];
  // One after the other: a clip has one reader, and the picture on the stage must not wait for all of them.
  for (const frame of wanted) {
    try {
      const answer = await getPicture(`/api/frame/${frame}?near=1`);
      if (mine !== asked) return;
      if (answer !== null) loaded.push({ frame, bitmap: answer.bitmap });
    } catch (error) {
      tell(error, "frame");
      return;
    }
    // The old ones stand until they are replaced, so that zooming does not empty the strip.
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
    for (const frame of Object.keys(object.frames).map(Number)) {
      if (frame >= span.from && frame <= span.to) drawReference(context, xOf(frame, width), object.color);
    }
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
  context.fillRect(x - 3, 0, 6, strip.clientHeight);
  context.fillStyle = color;
  context.fillRect(x - 1.5, 0, 3, strip.clientHeight);
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

/**
 * The lowest value that a lane has room for: differences near the top would be lost on a scale from 0.
 * @param {number[][]} lanes
 */
function bottomOf(lanes) {
  let least = 100 * model.clip.suggested_below;
  for (const lane of lanes) for (const value of lane) if (value >= 0 && value < least) least = value;
  return Math.max(0, Math.floor((least - 5) / 10) * 10);
}

function drawCurve() {
  const { context, width, height } = sizedContext(curve);
  const marked = model.state.objects.filter((one) => model.curves[one.id]);
  const lanes = marked.map((one) => model.curves[one.id]);
  const known = model.curve.some((value) => value >= 0);
  if (!known) {
    context.fillStyle = "#a3acb9";
    context.font = "12px system-ui, sans-serif";
    context.fillText("Preview shows here how sure the model is of each frame", 10, height / 2 + 4);
  }
  const bottom = bottomOf(lanes);
  const tall = height / Math.max(lanes.length, 1);
  lanes.forEach((lane, n) => {
    context.save();
    context.translate(0, n * tall);
    drawLane(context, lane, { width, height: tall, bottom, color: marked[n].color });
    context.restore();
  });
  shadeOutside(context, width, height);
  const least = suggestions()[0];
  const text = known ? (least === undefined ? "the model is sure of every frame" : `least sure at frame ${numberOf(least)}`) : "not known before a preview";
  curve.setAttribute("aria-label", `Confidence of each frame, ${bottom} to 100 %: ${text}`);
}

/**
 * The confidence of one object; frames that the model is unsure of stand out. Each column shows its lowest frame.
 * @param {CanvasRenderingContext2D} context
 * @param {number[]} lane
 * @param {{width: number, height: number, bottom: number, color: string}} how
 */
function drawLane(context, lane, { width, height, bottom, color }) {
  const below = model.clip.suggested_below * 100;
  /** @param {number} value */
  const y = (value) => 2 + (height - 4) * (1 - Math.max(0, value - bottom) / (100 - bottom));
  context.strokeStyle = "#454c58";
  context.setLineDash([4, 4]);
  context.beginPath();
  context.moveTo(0, y(below));
  context.lineTo(width, y(below));
  context.stroke();
  context.setLineDash([]);
  const many = span.to - span.from + 1;
  const columns = Math.min(Math.ceil(width), many);
  const each = width / columns;
  for (let column = 0; column < columns; column += 1) {
    const first = span.from + Math.floor((column / columns) * many);
    const end = Math.max(first + 1, span.from + Math.floor(((column + 1) / columns) * many));
    let value = 101;
    for (let frame = first; frame < end; frame += 1) if (lane[frame] >= 0) value = Math.min(value, lane[frame]);
    if (value > 100) continue;
    const isUnsure = value < below;
    context.fillStyle = isUnsure ? "#ffb45488" : `${color}44`;
    context.fillRect(column * each, y(value), Math.max(each, 1), height - y(value));
    context.fillStyle = isUnsure ? "#ffb454" : color;
    context.fillRect(column * each, y(value) - 0.75, Math.max(each, 1), 1.5);
  }
}

// Frames that one more reference would help most, the least sure first.
function suggestions() {
  const marked = model.state.objects.flatMap((object) => Object.keys(object.frames).map(Number));
  /** @type {number[]} */
  const chosen = [];
  const unsure = model.curve.map((value, frame) => ({ value, frame }));
  for (const { frame } of unsure.filter(({ value }) => value >= 0 && value < model.clip.suggested_below * 100).sort((a, b) => a.value - b.value)) {
    // A mark helps its neighbours too: the worst frame of each stretch is enough.
    if ([...marked, ...chosen].every((other) => Math.abs(other - frame) >= APART)) chosen.push(frame);
    if (chosen.length === 12) break;
  }
  return chosen;
}

let flaggedShown = "";

// Small pictures of the frames to check, in the panel.
function showFlagged() {
  const frames = suggestions().sort((a, b) => a - b);
  byId("check").hidden = !frames.length;
  byId("unsure").disabled = !frames.length;
  const key = JSON.stringify(frames.map((frame) => [frame, model.curve[frame]]));
  if (key === flaggedShown) return;
  flaggedShown = key;
  const items = frames.map((frame) => {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "flagged", title: `Go to frame ${numberOf(frame)}` });
    const canvas = Object.assign(document.createElement("canvas"), { width: 96, height: Math.round((96 * model.clip.height) / model.clip.width) });
    button.append(canvas, Object.assign(document.createElement("span"), { textContent: `${numberOf(frame)}: ${model.curve[frame]} %` }));
    button.addEventListener("click", () => goTo(frame));
    getPicture(`/api/frame/${frame}?longest=160`)
      .then((answer) => answer && contextOf(canvas).drawImage(answer.bitmap, 0, 0, canvas.width, canvas.height))
      .catch((error) => tell(error, "frame"));
    return button;
  });
  byId("flagged").replaceChildren(...items);
}

export function nextUnsure() {
  const frames = suggestions().sort((a, b) => a - b);
  if (!frames.length) {
    say(model.curve.some((value) => value >= 0) ? "No frame is worth marking that the model is unsure of" : "Start the preview first (V): it shows how sure the model is");
    return;
  }
  goTo(frames.find((frame) => frame > model.frame) ?? frames[0]);
  say(`Frame ${numberOf(model.frame)}: the model is ${model.curve[model.frame]} % sure. Mark what is wrong.`);
}

/** @param {"start" | "end"} which */
export function setRange(which) {
  const range = { start: model.state.start, end: model.state.end, [which]: model.frame };
  // A new in point behind the out point is meant: the older of the two gives way.
  if (which === "start" && range.end !== null && range.end < model.frame) range.end = null;
  if (which === "end" && (range.start ?? 0) > model.frame) range.start = null;
  edit("set_range", range);
}

export function togglePreview() {
  post("/api/preview", { on: !model.state.preview.on, frame: model.frame, way: byId("preview-way").value });
}

let curveOf = "";
let curvesAsked = 0;
let curvesShown = 0;

// The curve and the mattes of the current frame, while a preview or a run computes them.
export async function followProgress() {
  const { preview, run, version } = model.state;
  const key = `${version} ${preview.on} ${preview.done} ${run?.state} ${run?.done}`;
  // A curve has a number for each frame of the clip: it is asked for only after something was computed.
  if (key === curveOf) return;
  curveOf = key;
  const mine = ++curvesAsked;
  const answer = await getJson("/api/curve").catch((error) => {
    curveOf = ""; // asked for again
    throw error;
  });
  // An answer that was overtaken by a later one must not put the old curve back.
  if (mine < curvesShown) return;
  curvesShown = mine;
  Object.assign(model, { curve: answer.confidence, curves: answer.objects });
  emit("progress");
  drawCurve();
  showFlagged();
  showFrame();
}

function showFrame() {
  slider.value = String(model.frame);
  const { clip } = model;
  const seconds = model.frame / clip.frame_rate;
  slider.setAttribute("aria-valuetext", `frame ${numberOf(model.frame)}, ${model.frame + 1} of ${clip.frames}`);
  if (document.activeElement !== byId("frame")) byId("frame").value = String(numberOf(model.frame));
  byId("time").textContent = timecodeOf(model.frame) ?? `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(2).padStart(5, "0")}`;
  byId("file-number").textContent = `${model.frame + 1} of ${clip.frames}`;
  const sure = model.curve[model.frame] ?? -1;
  byId("frame-confidence").textContent = sure < 0 ? "" : `confidence ${sure} %`;
}

/**
 * The time code of a frame, from those of the minutes that the server counted out; null for a clip without.
 * @param {number} frame
 */
function timecodeOf(frame) {
  return model.clip.timecode === null ? null : model.timecodes.get(frame) ?? (askTimecode(frame), null);
}

/** @param {number} frame */
async function askTimecode(frame) {
  try {
    const first = frame - (frame % 100);
    const { timecodes } = await getJson(`/api/timecodes/${first}`);
    timecodes.forEach((/** @type {string} */ text, /** @type {number} */ n) => model.timecodes.set(first + n, text));
    if (model.timecodes.has(model.frame)) byId("time").textContent = model.timecodes.get(model.frame) ?? "";
  } catch (error) {
    tell(error, "timecodes");
  }
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
  const left = preview.seconds_left === null || preview.done >= preview.total ? "" : `, ${Math.ceil(preview.seconds_left)} s left`;
  byId("preview-text").textContent = preview.error || (preview.on ? `${preview.done} of ${preview.total} frames${left}` : "");
  byId("preview-text").classList.toggle("error", Boolean(preview.error));
  byId("range-text").textContent = start === null && end === null ? "" : `${numberOf(firstFrame())} to ${numberOf(lastFrame())}`;
  byId("clear-range").disabled = start === null && end === null;
  showFlagged();
  drawStrip();
  drawCurve();
}

export function startTimeline() {
  showSpan(0, model.clip.frames - 1);
  byId("frame").min = String(numberOf(0));
  byId("frame").max = String(numberOf(model.clip.frames - 1));
  slider.addEventListener("input", () => {
    if (model.isPlaying) emit("stop");
    goTo(Number(slider.value));
  });
  byId("timeline").addEventListener("wheel", (event) => {
    const bounds = strip.getBoundingClientRect();
    const under = span.from + ((event.clientX - bounds.left) / bounds.width) * (span.to - span.from);
    zoomTime(Math.exp(event.deltaY * 0.002), Math.min(Math.max(under, span.from), span.to));
    event.preventDefault();
  }, { passive: false });
  byId("frame").addEventListener("change", () => goTo(Number(byId("frame").value) - model.clip.first_number));
  byId("previous").addEventListener("click", () => goTo(model.frame - 1));
  byId("next").addEventListener("click", () => goTo(model.frame + 1));
  byId("play").addEventListener("click", togglePlay);
  byId("preview").addEventListener("click", togglePreview);
  byId("preview-way").addEventListener("change", () => {
    if (model.state.preview.on) post("/api/preview", { on: true, frame: model.frame, way: byId("preview-way").value });
  });
  byId("unsure").addEventListener("click", nextUnsure);
  byId("set-in").addEventListener("click", () => setRange("start"));
  byId("set-out").addEventListener("click", () => setRange("end"));
  byId("clear-range").addEventListener("click", () => edit("set_range", { start: null, end: null }));
  byId("time-in").addEventListener("click", () => zoomTime(0.5));
  byId("time-out").addEventListener("click", () => zoomTime(2));
  on("frame played", () => {
    keepInSight();
    showFrame();
  });
  on("state", showState);
  startPlayer();
  new ResizeObserver(() => {
    drawStrip();
    if (model.state) drawCurve();
    askThumbnails();
  }).observe(strip);
  showFrame();
}
