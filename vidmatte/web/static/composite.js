// @ts-check
// One picture from a frame and its mattes: overlay, alpha, over a checkerboard, over a colour.

import { contextOf } from "./model.js";

/** @typedef {HTMLCanvasElement | OffscreenCanvas} Canvas */
/** @typedef {ImageBitmap | OffscreenCanvas} Picture */
/**
 * A mask, white where the object is, with alpha; the object cut out, if its own colour is known; and the mask of the
 * run before.
 * @typedef {{mask: Picture, cut?: Picture | null, before?: Picture | null, object: {color: string}}} Matte
 */
/** @typedef {{color: string, picture: ImageBitmap | null}} Backdrop  what is behind the object */

const TINT = 0.45;
const CHECK = 12;

const scratch = new OffscreenCanvas(1, 1);
/** @type {OffscreenCanvas | null} */
let checks = null;

/**
 * @param {Canvas} canvas
 * @param {number} width
 * @param {number} height
 */
function sized(canvas, width, height) {
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const context = contextOf(canvas);
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.globalCompositeOperation = "source-over";
  context.globalAlpha = 1;
  context.clearRect(0, 0, width, height);
  return context;
}

/** @param {CanvasRenderingContext2D} context */
function checkerboard(context) {
  if (checks === null) {
    checks = new OffscreenCanvas(2 * CHECK, 2 * CHECK);
    const tile = contextOf(checks);
    tile.fillStyle = "#8b8f96";
    tile.fillRect(0, 0, 2 * CHECK, 2 * CHECK);
    tile.fillStyle = "#5d6168";
    tile.fillRect(0, 0, CHECK, CHECK);
    tile.fillRect(CHECK, CHECK, CHECK, CHECK);
  }
  return /** @type {CanvasPattern} */ (context.createPattern(checks, "repeat"));
}

/**
 * All masks added up, as alpha.
 * @param {Matte[]} mattes
 * @param {number} width
 * @param {number} height
 */
function union(mattes, width, height) {
  const context = sized(scratch, width, height);
  context.globalCompositeOperation = "lighter";
  for (const { mask } of mattes) context.drawImage(mask, 0, 0, width, height);
  return context;
}

/**
 * @typedef {(
 *   context: CanvasRenderingContext2D, image: Picture, mattes: Matte[], width: number, height: number, backdrop: Backdrop,
 * ) => void} Painter
 */

/** @type {Record<import("./model.js").View, Painter>} */
const painters = {
  source() {},

  overlay(context, image, mattes, width, height) {
    for (const { mask, object } of mattes) {
      const tint = sized(scratch, width, height);
      tint.drawImage(mask, 0, 0, width, height);
      tint.globalCompositeOperation = "source-in";
      tint.fillStyle = object.color;
      tint.fillRect(0, 0, width, height);
      context.globalAlpha = TINT;
      context.drawImage(scratch, 0, 0);
    }
  },

  alpha(context, image, mattes, width, height) {
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    union(mattes, width, height);
    context.drawImage(scratch, 0, 0);
  },

  checker(context, image, mattes, width, height) {
    context.fillStyle = checkerboard(context);
    context.fillRect(0, 0, width, height);
    over(context, image, mattes, width, height);
  },

  color(context, image, mattes, width, height, { color }) {
    context.fillStyle = color;
    context.fillRect(0, 0, width, height);
    over(context, image, mattes, width, height);
  },

  picture(context, image, mattes, width, height, { picture, color }) {
    context.fillStyle = color;
    context.fillRect(0, 0, width, height);
    if (picture !== null) {
      // It covers the frame, and what is too much is cut off on both sides alike.
      const scale = Math.max(width / picture.width, height / picture.height);
      const [wide, tall] = [picture.width * scale, picture.height * scale];
      context.drawImage(picture, (width - wide) / 2, (height - tall) / 2, wide, tall);
    }
    over(context, image, mattes, width, height);
  },

  difference(context, image, mattes, width, height) {
    context.fillStyle = "#000b";
    context.fillRect(0, 0, width, height);
    for (const { mask, before } of mattes) {
      if (before) context.drawImage(changes(mask, before), 0, 0, width, height);
    }
  },
};

/**
 * Draw the objects in their own colour. Objects that meet share alpha, so their light adds up.
 * @param {CanvasRenderingContext2D} context
 * @param {Picture} image
 * @param {Matte[]} mattes
 * @param {number} width
 * @param {number} height
 */
function over(context, image, mattes, width, height) {
  if (mattes.some(({ cut }) => cut)) {
    const light = sized(scratch, width, height);
    light.globalCompositeOperation = "lighter";
    for (const { cut, mask } of mattes) light.drawImage(cut ?? cutOut(image, mask), 0, 0, width, height);
  } else {
    const cut = union(mattes, width, height);
    cut.globalCompositeOperation = "source-in";
    cut.drawImage(image, 0, 0, width, height);
  }
  context.drawImage(scratch, 0, 0);
}

/**
 * A picture where a mask is.
 * @param {Picture} image
 * @param {Picture} mask
 */
export function cutOut(image, mask) {
  const context = sized(new OffscreenCanvas(1, 1), image.width, image.height);
  context.drawImage(mask, 0, 0, image.width, image.height);
  context.globalCompositeOperation = "source-in";
  context.drawImage(image, 0, 0);
  return /** @type {OffscreenCanvas} */ (/** @type {unknown} */ (context.canvas));
}

/**
 * What changed between two masks: green where alpha rose, red where it fell, as much as it did.
 * @param {Picture} mask
 * @param {Picture} before
 */
function changes(mask, before) {
  const { width, height } = before;
  const [now, then] = [mask, before].map((one) => {
    const context = sized(new OffscreenCanvas(1, 1), width, height);
    context.drawImage(one, 0, 0, width, height);
    return context;
  });
  const shown = now.getImageData(0, 0, width, height);
  const [a, b] = [shown.data, then.getImageData(0, 0, width, height).data];
  for (let i = 0; i < a.length; i += 4) {
    const change = a[i + 3] - b[i + 3];
    [a[i], a[i + 1], a[i + 2], a[i + 3]] = change > 0 ? [53, 208, 127, change] : [255, 107, 129, -change];
  }
  now.putImageData(shown, 0, 0);
  return now.canvas;
}

/**
 * Draw into `canvas`, which becomes as large as the frame. Without mattes only the source is there to see.
 * @param {Canvas} canvas
 * @param {Picture} image
 * @param {Matte[]} mattes
 * @param {import("./model.js").View} view
 * @param {Backdrop} backdrop
 */
export function compose(canvas, image, mattes, view, backdrop, width = image.width, height = image.height) {
  const context = sized(canvas, width, height);
  context.drawImage(image, 0, 0, width, height);
  if (mattes.length) painters[view](context, image, mattes, width, height, backdrop);
  context.globalAlpha = 1;
}

/**
 * A picture without the light of a green or blue screen, as `imaging/despill.py` takes it out.
 * @param {Picture} image
 * @param {"green" | "blue"} screen
 * @param {number} strength
 */
export function despilled(image, screen, strength) {
  const context = sized(new OffscreenCanvas(1, 1), image.width, image.height);
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, image.width, image.height);
  const data = pixels.data;
  const [own, one, two, weight] = screen === "green" ? [1, 0, 2, 0.7152] : [2, 0, 1, 0.0722];
  for (let i = 0; i < data.length; i += 4) {
    const spill = strength * (data[i + own] - (data[i + one] + data[i + two]) / 2);
    if (spill <= 0) continue;
    // The array clamps and rounds.
    data[i + own] += (weight - 1) * spill;
    data[i + one] += weight * spill;
    data[i + two] += weight * spill;
  }
  context.putImageData(pixels, 0, 0);
  return /** @type {OffscreenCanvas} */ (/** @type {unknown} */ (context.canvas));
}
