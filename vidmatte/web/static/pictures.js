// @ts-check
// Frames and mattes: asked for, kept for a while, and put together as the picture of the current frame.

import { getPicture, tell } from "./api.js";
import { cutOut } from "./composite.js";
import { byId, contextOf, doneRun, emit, model, on } from "./model.js";

/** @typedef {import("./model.js").Thing} Thing */
/**
 * What is shown of an object; `answers` are what its first mark may mean, of which `answer` is shown.
 * @typedef {{
 *   mask: OffscreenCanvas, cut: ImageBitmap | OffscreenCanvas | null, before: OffscreenCanvas | null, confidence: number,
 *   answers: string[], answer: string | null,
 * }} Layer
 */
/** @typedef {Layer & {object: Thing}} Matte */

const SMALL = 640;
const NEAR_MS = 160; // after this long without an answer a frame close by is shown
const SETTLED_MS = 140; // after this long on a frame it is asked for in full
const KEPT = { small: 120, full: 4, stills: 6, mattes: 120, written: 4, proxies: 120 }; // pictures of 1 MB, 8 MB, 8 MB, 1 MB for 1080p

// What is on the stage. Mattes are canvases, white where the object is, with alpha.
export const picture = {
  frame: -1,
  image: /** @type {ImageBitmap | null} */ (null),
  isFull: false,
  isNear: false,
  mattes: /** @type {Matte[]} */ ([]),
  mattesOf: -1,
  isExact: false, // whether the mattes are of the full size
};

/**
 * The newest answers by their key; what came to nothing is asked for again.
 * @template Value
 */
class Kept {
  /** @param {number} most */
  constructor(most) {
    this.most = most;
    /** @type {Map<string | number, Promise<Value>>} */
    this.items = new Map();
  }

  /**
   * @param {string | number} key
   * @param {() => Promise<Value>} load
   */
  async get(key, load) {
    let item = this.items.get(key);
    if (item === undefined) {
      item = load();
      this.items.set(key, item);
      const forget = () => this.items.delete(key);
      item.then((value) => value ?? forget(), forget);
      for (const oldest of this.items.keys()) {
        if (this.items.size <= this.most) break;
        this.items.delete(oldest);
      }
    }
    return item;
  }
}

/** @typedef {Layer | null} Found */

const smalls = /** @type {Kept<ImageBitmap>} */ (new Kept(KEPT.small));
const fulls = /** @type {Kept<ImageBitmap>} */ (new Kept(KEPT.full));
const stills = /** @type {Kept<Found>} */ (new Kept(KEPT.stills));
const mattes = /** @type {Kept<Found>} */ (new Kept(KEPT.mattes));
const written = /** @type {Kept<Found>} */ (new Kept(KEPT.written));
const proxies = /** @type {Kept<Found>} */ (new Kept(KEPT.proxies));

/** @param {string} path */
async function bitmapOf(path) {
  const answer = await getPicture(path);
  if (answer === null) throw new Error(`the server has no picture at ${path}`);
  return answer.bitmap;
}

/** @param {number} frame */
export function smallFrame(frame) {
  return smalls.get(frame, () => bitmapOf(`/api/frame/${frame}?longest=${SMALL}`));
}

/** @param {number} frame */
function fullFrame(frame) {
  return fulls.get(frame, () => bitmapOf(`/api/frame/${frame}`));
}

/**
 * A gray picture as a canvas that is white with that alpha.
 * @param {ImageBitmap} bitmap
 */
export function maskOf(bitmap) {
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = contextOf(canvas, { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const data = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const codes = new Uint32Array(data.data.buffer);
  for (let i = 0; i < codes.length; i += 1) codes[i] = ((codes[i] & 0xff) << 24) | 0xffffff;
  context.putImageData(data, 0, 0);
  return canvas;
}

/**
 * Where a picture with alpha is, white with that alpha.
 * @param {ImageBitmap} bitmap
 */
function shapeOf(bitmap) {
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = contextOf(canvas);
  context.drawImage(bitmap, 0, 0);
  context.globalCompositeOperation = "source-in";
  context.fillStyle = "#fff";
  context.fillRect(0, 0, bitmap.width, bitmap.height);
  return canvas;
}

/**
 * The matte of marks as the server answers them, with what it says beside it.
 * @param {{bitmap: ImageBitmap, headers: Headers}} answer
 * @returns {Layer}
 */
function stillLayer({ bitmap, headers }) {
  const confidence = Number(headers.get("x-confidence") ?? NaN);
  const answers = headers.get("x-answers")?.split(",") ?? [];
  return { mask: maskOf(bitmap), cut: null, before: null, confidence, answers, answer: headers.get("x-answer") };
}

let age = 0; // of what is known of frames without marks

/**
 * @param {Thing} object
 * @param {number} frame
 * @returns {Promise<Found>}
 */
async function matteOf(object, frame) {
  const marks = object.frames[frame];
  const edge = model.state.edge_version;
  const key = `${object.id} ${frame} ${edge} ${model.state.prompt_model} ${marks ? JSON.stringify(marks) : `${age} ${model.state.run?.state}`}`;
  return (marks ? stills : mattes).get(key, async () => {
    const answer = await getPicture(`/api/alpha/${object.id}/${frame}?edge=${edge}`);
    if (answer === null) return null;
    return stillLayer(answer);
  });
}

/**
 * What the run wrote of an object: at full size from the file, or small, which is quick enough to play.
 * @param {Thing} object
 * @param {number} frame
 * @param {boolean} isFull
 * @returns {Promise<Found>}
 */
async function writtenOf(object, frame, isFull) {
  const run = doneRun();
  const file = run?.files[model.resultFile];
  const part = file?.parts.find((one) => one.object === object.id);
  if (!run || !file || !part || frame < run.first_frame || frame >= run.first_frame + run.frames) return null;
  const edge = model.state.edge_version;
  const key = `${run.number} ${part.index} ${frame} ${edge}`;
  const load = async () => {
    const layer = (isFull ? null : await proxyOf(object.id, frame, file.kind)) ?? (await fileFrame(part.index, frame - run.first_frame, isFull));
    const before = run.has_before ? await maskAt(`/api/proxy/before/${object.id}/${frame}`) : null;
    return { ...layer, before, confidence: NaN, answers: [], answer: null };
  };
  return (isFull ? written : proxies).get(key, load);
}

/** @param {string} path */
async function maskAt(path) {
  const answer = await getPicture(path);
  return answer && maskOf(answer.bitmap);
}

/**
 * @param {number} object
 * @param {number} frame
 * @param {"colour" | "alpha"} kind
 */
async function proxyOf(object, frame, kind) {
  const [mask, color] = await Promise.all([
    maskAt(`/api/proxy/alpha/${object}/${frame}?edge=${model.state.edge_version}`),
    kind === "colour" ? getPicture(`/api/proxy/colour/${object}/${frame}`) : null,
  ]);
  if (mask === null || (kind === "colour" && color === null)) return null;
  return { mask, cut: color && cutOut(color.bitmap, mask) };
}

/**
 * @param {number} index
 * @param {number} frame
 * @param {boolean} isFull
 */
async function fileFrame(index, frame, isFull) {
  const { edge_version: edge } = model.state;
  const bitmap = await bitmapOf(`/api/result/${index}/${frame}?edge=${edge}${isFull ? "" : `&longest=${SMALL}`}`);
  const isColor = doneRun()?.files[model.resultFile]?.kind === "colour";
  return isColor ? { mask: shapeOf(bitmap), cut: bitmap } : { mask: maskOf(bitmap), cut: null };
}

/**
 * @param {number} frame
 * @returns {Promise<Matte[]>}
 */
async function mattesOf(frame, isFull = false) {
  const shown = model.state.objects.filter((one) => !model.hidden.has(one.id));
  const found = await Promise.all(shown.map((one) => (model.isResult ? writtenOf(one, frame, isFull) : matteOf(one, frame))));
  return shown.flatMap((object, n) => {
    const layer = found[n];
    return layer === null ? [] : [{ object, ...layer }];
  });
}

/** @type {ReturnType<typeof setTimeout> | undefined} */
let imageTimer;
let isLoading = false;

// While the slider moves, the newest frame is loaded whenever one has come: none is queued.
async function loadImage() {
  if (isLoading || model.isPlaying) return;
  isLoading = true;
  try {
    while (picture.frame !== model.frame && !model.isPlaying) {
      const frame = model.frame;
      const exact = smallFrame(frame);
      const placeholder = setTimeout(() => showNear(frame), NEAR_MS);
      const image = await exact.finally(() => clearTimeout(placeholder));
      Object.assign(picture, { frame, image, isFull: false, isNear: false });
      emit("picture");
    }
  } catch (error) {
    tell(error);
  } finally {
    isLoading = false;
  }
  clearTimeout(imageTimer);
  imageTimer = setTimeout(loadFull, SETTLED_MS);
}

/**
 * A frame that is slow to find: the key frame before it stands in, so that the slider does not seem stuck.
 * @param {number} frame
 */
async function showNear(frame) {
  const near = await getPicture(`/api/frame/${frame}?near=1`).catch(() => null);
  if (near === null || picture.frame === frame || model.frame !== frame) return;
  Object.assign(picture, { frame: -1, image: near.bitmap, isFull: false, isNear: true });
  emit("picture");
}

async function loadFull() {
  const frame = model.frame;
  const isDone = picture.frame === frame && picture.isFull && (!model.isResult || picture.isExact);
  if (model.isPlaying || isDone) return;
  try {
    const image = await fullFrame(frame);
    if (model.frame !== frame) return;
    Object.assign(picture, { frame, image, isFull: true, isNear: false });
    emit("picture");
    if (model.isResult) await loadExact();
  } catch (error) {
    tell(error);
  }
}

// The written files at their full size, once a frame is looked at for longer.
async function loadExact() {
  const frame = model.frame;
  const mine = asked;
  const found = await mattesOf(frame, true);
  if (mine !== asked || model.frame !== frame || !model.isResult) return;
  Object.assign(picture, { mattes: found, mattesOf: frame, isExact: true });
  emit("picture");
}

let asked = 0;

// Of several that are under way only the last one counts; the server drops the others where it has not begun.
export async function loadMattes() {
  if (model.isPlaying || !model.state) return;
  asked += 1;
  const mine = asked;
  const frame = model.frame;
  const busy = setTimeout(() => (byId("busy").hidden = mine !== asked), 120);
  /** @type {Matte[]} */
  let found = [];
  try {
    found = await mattesOf(frame);
  } catch (error) {
    // A prompt that makes no matte, such as background alone: the old one would be wrong.
    if (mine === asked) tell(error, "alpha");
  }
  clearTimeout(busy);
  if (mine !== asked) return;
  byId("busy").hidden = true;
  Object.assign(picture, { mattes: found, mattesOf: frame, isExact: false });
  emit("picture");
  emit("mattes");
  if (model.isResult && picture.isFull && picture.frame === frame) loadFull();
}

/**
 * Frame and mattes together, for playing.
 * @param {number} frame
 */
export async function loadBoth(frame) {
  const [image, found] = await Promise.all([smallFrame(frame), mattesOf(frame)]);
  Object.assign(picture, { frame, image, isFull: false, isNear: false, mattes: found, mattesOf: frame, isExact: false });
  emit("picture");
}

/** @typedef {{op: string, object: number, frame: number}} Trial  an edit that is not made yet, with its values */

/** @type {Trial | null} */
let waitingTrial = null;
let isTrying = false;

/**
 * Show the matte that an edit would give, while the mark is still being dragged. One request is under way at a time:
 * of those that come meanwhile only the newest is sent, so that the matte is never far behind the mouse.
 * @param {Trial} trial
 */
export async function tryEdit(trial) {
  waitingTrial = trial;
  if (isTrying) return;
  isTrying = true;
  while (waitingTrial !== null) {
    const now = waitingTrial;
    waitingTrial = null;
    await showTrial(now).catch(() => null); // marks that make no matte: the drag goes on, and the drop says so
  }
  isTrying = false;
}

let trials = 0; // counts the drags: an answer that comes after its drag was given up is not shown

/** @param {Trial} trial */
async function showTrial(trial) {
  const mine = trials;
  const headers = { "content-type": "application/json" };
  const answer = await getPicture("/api/try", { method: "POST", headers, body: JSON.stringify(trial) });
  const object = model.state.objects.find(({ id }) => id === trial.object);
  const isOver = mine !== trials || model.frame !== trial.frame || picture.mattesOf !== trial.frame;
  if (answer === null || object === undefined || isOver || model.hidden.has(object.id)) return;
  asked += 1; // what was asked for before the drag would be older
  byId("busy").hidden = true;
  const others = picture.mattes.filter((matte) => matte.object.id !== object.id);
  picture.mattes = [...others, { object, ...stillLayer(answer) }];
  emit("picture");
  emit("mattes");
}

/**
 * The drag is over: forget what waits. If nothing came of it, the matte of the marks as they are is shown again.
 * @param {boolean} isGivenUp
 */
export function endTrials(isGivenUp) {
  waitingTrial = null;
  trials += 1;
  if (isGivenUp) loadMattes();
}

/**
 * The matte of the marks of an object on the frame that is looked at; undefined until it is there.
 * @param {Thing} object
 */
export function stillOf(object) {
  if (picture.mattesOf !== model.frame || !object.frames[model.frame]) return undefined;
  return picture.mattes.find((matte) => matte.object.id === object.id);
}

let marksBefore = "";

on("frame", loadImage);
on("frame objects result", loadMattes);
on("state", () => {
  const { objects, start, end, edge_version: edge, prompt_model: answering } = model.state;
  // A short second run may be over before the page has seen it begin.
  const marks = JSON.stringify([objects, start, end, answering, model.isResult ? doneRun()?.number : null]);
  if (`${marks} ${edge}` === marksBefore) return;
  marksBefore = `${marks} ${edge}`;
  age += 1;
  loadMattes();
});
on("progress", () => {
  if (model.isResult) return;
  if (picture.mattesOf !== model.frame || picture.mattes.length < model.state.objects.length) loadMattes();
});
