// @ts-check
// Frames and mattes: asked for, kept for a while, and put together as the picture of the current frame.

import { getPicture, tell } from "./api.js";
import { byId, contextOf, emit, model, on } from "./model.js";

/** @typedef {import("./model.js").Thing} Thing */
/** @typedef {{object: Thing, mask: OffscreenCanvas, confidence: number}} Matte */

const SMALL = 640;
const NEAR_MS = 160; // after this long without an answer a frame close by is shown
const SETTLED_MS = 140; // after this long on a frame it is asked for in full
const KEPT = { small: 120, full: 4, stills: 6, mattes: 120 }; // pictures of 1 MB, 8 MB, 8 MB, 1 MB for 1080p

// What is on the stage. Mattes are canvases, white where the object is, with alpha.
export const picture = {
  frame: -1,
  image: /** @type {ImageBitmap | null} */ (null),
  isFull: false,
  isNear: false,
  mattes: /** @type {Matte[]} */ ([]),
  mattesOf: -1,
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

/** @typedef {{mask: OffscreenCanvas, confidence: number} | null} Found */

const smalls = /** @type {Kept<ImageBitmap>} */ (new Kept(KEPT.small));
const fulls = /** @type {Kept<ImageBitmap>} */ (new Kept(KEPT.full));
const stills = /** @type {Kept<Found>} */ (new Kept(KEPT.stills));
const mattes = /** @type {Kept<Found>} */ (new Kept(KEPT.mattes));

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

let age = 0; // of what is known of frames without marks

/**
 * @param {Thing} object
 * @param {number} frame
 * @returns {Promise<Found>}
 */
async function matteOf(object, frame) {
  const marks = object.frames[frame];
  const key = `${object.id} ${frame} ${marks ? JSON.stringify(marks) : `${age} ${model.state.run?.state}`}`;
  return (marks ? stills : mattes).get(key, async () => {
    const answer = await getPicture(`/api/alpha/${object.id}/${frame}`);
    if (answer === null) return null;
    const confidence = Number(answer.headers.get("x-confidence") ?? NaN);
    return { mask: maskOf(answer.bitmap), confidence };
  });
}

/**
 * @param {number} frame
 * @returns {Promise<Matte[]>}
 */
async function mattesOf(frame) {
  const shown = model.state.objects.filter((one) => !model.hidden.has(one.id));
  const found = await Promise.all(shown.map((one) => matteOf(one, frame)));
  return shown.flatMap((object, n) => {
    const matte = found[n];
    return matte === null ? [] : [{ object, ...matte }];
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
  if (model.isPlaying || (picture.frame === frame && picture.isFull)) return;
  try {
    const image = await fullFrame(frame);
    if (model.frame !== frame) return;
    Object.assign(picture, { frame, image, isFull: true, isNear: false });
    emit("picture");
  } catch (error) {
    tell(error);
  }
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
    if (mine === asked) tell(error);
  }
  clearTimeout(busy);
  if (mine !== asked) return;
  byId("busy").hidden = true;
  Object.assign(picture, { mattes: found, mattesOf: frame });
  emit("picture");
  emit("mattes");
}

/**
 * Frame and mattes together, for playing.
 * @param {number} frame
 */
export async function loadBoth(frame) {
  const [image, found] = await Promise.all([smallFrame(frame), mattesOf(frame)]);
  Object.assign(picture, { frame, image, isFull: false, isNear: false, mattes: found, mattesOf: frame });
  emit("picture");
}

let marksBefore = "";

on("frame", loadImage);
on("frame objects", loadMattes);
on("state", () => {
  const { objects, start, end } = model.state;
  const marks = JSON.stringify([objects, start, end]);
  if (marks === marksBefore) return;
  marksBefore = marks;
  age += 1;
  loadMattes();
});
on("progress", () => {
  if (picture.mattesOf !== model.frame || picture.mattes.length < model.state.objects.length) loadMattes();
});
