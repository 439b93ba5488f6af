// @ts-check
// What the page knows, and who is told when it changes. The marks themselves live in the server.

/** @typedef {{x: number, y: number}} Place  pixels of the picture, or of the stage on the screen */
/** @typedef {[number, number, number]} Point  x, y and label: 1 object, 0 background */
/** @typedef {[number, number, number, number]} Box  x0, y0, x1, y1 */
/** @typedef {{points: [number, number][], width: number, label: number}} Stroke */
/**
 * What marks an object on one frame.
 * @typedef {{points: Point[], strokes: Stroke[], box: Box | null, mask: string | null, scribbles: string | null}} Marks
 */
/** @typedef {{id: number, name: string, color: string, frames: Record<string, Marks>}} Thing  an object that is marked */
/**
 * What does not change, from /api/clip.
 * @typedef {{
 *   name: string, first_number: number, frames: number, width: number, height: number, frame_rate: number, frame: number,
 *   suggested_below: number, notes: string[], model: string,
 * }} Clip
 */
/** @typedef {{on: boolean, done: number, total: number, error: string}} Preview */
/**
 * A run, and what it wrote once it is done.
 * @typedef {{
 *   state: "starting" | "adapting" | "matting" | "done" | "failed" | "cancelled",
 *   done: number, total: number | null, rate: number, seconds_left: number | null, error: string,
 *   seconds: number, frames: number, first_frame: number, notes: string[],
 *   outputs: {path: string, kind: string, object: string, is_webm: boolean}[],
 *   shown: {path: string, object: string}[],
 * }} Run
 */
/** @typedef {{path: string, kind: string, format: string, chosen: boolean}} Output  on offer for the run */
/**
 * Marks, choices, preview and run, from /api/state.
 * @typedef {{
 *   version: number, objects: Thing[], start: number | null, end: number | null,
 *   can_undo: boolean, can_redo: boolean, saved_as: string, command: string,
 *   outputs: Output[], overwrite: boolean, smooth: number, adapt_steps: number, suggested_adapt_steps: number,
 *   preview: Preview, run: Run | null, kept: number,
 * }} State
 */
/** @typedef {"source" | "overlay" | "alpha" | "checker" | "color"} View */
/**
 * Elements of the page by their ids; all others are any HTMLElement.
 * @typedef {{
 *   "adapt": HTMLInputElement,
 *   "add-object": HTMLButtonElement,
 *   "backdrop": HTMLInputElement,
 *   "brush": HTMLInputElement,
 *   "brush-value": HTMLOutputElement,
 *   "cancel": HTMLButtonElement,
 *   "clear-frame": HTMLButtonElement,
 *   "clear-range": HTMLButtonElement,
 *   "copy": HTMLButtonElement,
 *   "curve": HTMLCanvasElement,
 *   "end": HTMLButtonElement,
 *   "ended": HTMLDialogElement,
 *   "frame": HTMLInputElement,
 *   "help": HTMLDialogElement,
 *   "help-open": HTMLButtonElement,
 *   "load-mask": HTMLButtonElement,
 *   "mask-file": HTMLInputElement,
 *   "more": HTMLDetailsElement,
 *   "next": HTMLButtonElement,
 *   "overwrite": HTMLInputElement,
 *   "play": HTMLButtonElement,
 *   "preview": HTMLButtonElement,
 *   "previous": HTMLButtonElement,
 *   "redo": HTMLButtonElement,
 *   "result-alpha": HTMLCanvasElement,
 *   "result-canvas": HTMLCanvasElement,
 *   "result-close": HTMLButtonElement,
 *   "result-color": HTMLInputElement,
 *   "result-input": HTMLCanvasElement,
 *   "result-video": HTMLVideoElement,
 *   "run": HTMLButtonElement,
 *   "run-bar": HTMLProgressElement,
 *   "set-in": HTMLButtonElement,
 *   "set-out": HTMLButtonElement,
 *   "slider": HTMLInputElement,
 *   "smooth": HTMLInputElement,
 *   "stage": HTMLCanvasElement,
 *   "strip": HTMLCanvasElement,
 *   "undo": HTMLButtonElement,
 *   "unsure": HTMLButtonElement,
 *   "watch": HTMLButtonElement,
 *   "zoom": HTMLButtonElement,
 *   "zoom-in": HTMLButtonElement,
 *   "zoom-out": HTMLButtonElement,
 * }} Elements
 */
/** @typedef {typeof model} Model */

/**
 * A value that is there before anything is shown, and not yet when the page loads.
 * @template T
 * @returns {T}
 */
const later = () => /** @type {any} */ (null);

export const model = {
  clip: /** @type {Clip} */ (later()),
  state: /** @type {State} */ (later()),
  frame: 0,
  object: 1, // id of the object that is being marked
  tool: "point",
  label: 1,
  brush: 24, // diameter, in pixels of the picture
  view: /** @type {View} */ ("overlay"),
  backdrop: "#2f7d4f",
  hidden: /** @type {Set<number>} */ (new Set()), // ids of objects that are not shown
  curve: /** @type {number[]} */ ([]), // confidence of each frame in hundredths, -1 where it is not known
  cross: /** @type {Place | null} */ (null), // where the keyboard's crosshair is
  lastCross: /** @type {Place | null} */ (null), // where it was when it was left
  isPlaying: false,
  isResult: false, // whether the result is watched in place of the marks
};

/** @type {Map<string, (() => void)[]>} */
const listeners = new Map();

/**
 * Call a listener whenever one of these events (names with blanks between them) happens.
 * @param {string} events
 * @param {() => void} listener
 */
export function on(events, listener) {
  for (const event of events.split(" ")) listeners.set(event, [...(listeners.get(event) ?? []), listener]);
}

/** @param {string} event */
export function emit(event) {
  for (const listener of listeners.get(event) ?? []) listener();
}

/**
 * @param {string} event
 * @param {Partial<Model>} changes
 */
export function set(event, changes) {
  Object.assign(model, changes);
  emit(event);
}

export function chosenObject() {
  const objects = model.state.objects;
  return objects.find((one) => one.id === model.object) ?? objects[0];
}

/**
 * @param {Thing} object
 * @returns {Marks | null}
 */
export function marksOf(object, frame = model.frame) {
  return object.frames[frame] ?? null;
}

export function firstFrame() {
  return model.state.start ?? 0;
}

export function lastFrame() {
  return model.state.end ?? model.clip.frames - 1;
}

/**
 * The number that a frame is called by: that of its file in a sequence.
 * @param {number} frame
 */
export function numberOf(frame) {
  return frame + model.clip.first_number;
}

/** @param {number} frame */
export function clampFrame(frame) {
  return Math.min(Math.max(Math.round(frame) || 0, 0), model.clip.frames - 1);
}

/** @param {number} frame */
export function goTo(frame) {
  const wanted = clampFrame(frame);
  if (wanted !== model.frame) set("frame", { frame: wanted });
}

/**
 * @template {string} Id
 * @param {Id} id
 * @returns {Id extends keyof Elements ? Elements[Id] : HTMLElement}
 */
export function byId(id) {
  return /** @type {any} */ (document.getElementById(id));
}

/** @param {HTMLCanvasElement | OffscreenCanvas} canvas */
export function contextOf(canvas, options = {}) {
  return /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", options));
}

/** @param {string} text */
export function say(text, isError = false) {
  const status = byId("status");
  status.textContent = text;
  status.classList.toggle("error", isError);
}
