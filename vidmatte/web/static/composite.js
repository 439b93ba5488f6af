// @ts-check
// One picture from a frame and its mattes: overlay, alpha, over a checkerboard, over a colour.

import { contextOf } from "./model.js";

/** @typedef {HTMLCanvasElement | OffscreenCanvas} Canvas */
/** @typedef {ImageBitmap | OffscreenCanvas} Picture */
/** @typedef {{mask: Picture, object: {color: string}}} Matte  white where the object is, with alpha */

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
 *   context: CanvasRenderingContext2D, image: Picture, mattes: Matte[], width: number, height: number, backdrop: string,
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
    over(context, image, mattes, width, height, checkerboard(context));
  },

  color(context, image, mattes, width, height, backdrop) {
    over(context, image, mattes, width, height, backdrop);
  },
};

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Picture} image
 * @param {Matte[]} mattes
 * @param {number} width
 * @param {number} height
 * @param {string | CanvasPattern} backdrop
 */
function over(context, image, mattes, width, height, backdrop) {
  const cut = union(mattes, width, height);
  cut.globalCompositeOperation = "source-in";
  cut.drawImage(image, 0, 0, width, height);
  context.fillStyle = backdrop;
  context.fillRect(0, 0, width, height);
  context.drawImage(scratch, 0, 0);
}

/**
 * Draw into `canvas`, which becomes as large as the frame. Without mattes only the source is there to see.
 * @param {Canvas} canvas
 * @param {Picture} image
 * @param {Matte[]} mattes
 * @param {import("./model.js").View} view
 * @param {string} backdrop
 */
export function compose(canvas, image, mattes, view, backdrop, width = image.width, height = image.height) {
  const context = sized(canvas, width, height);
  context.drawImage(image, 0, 0, width, height);
  if (mattes.length) painters[view](context, image, mattes, width, height, backdrop);
  context.globalAlpha = 1;
}
