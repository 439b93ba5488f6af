// @ts-check
// What the page knows, and who is told when it changes. The marks themselves live in the server.

/** @typedef {{x: number, y: number}} Place  pixels of the picture, or of the stage on the screen */
/** @typedef {[number, number, number]} Point  x, y and label: 1 object, 0 background */
/** @typedef {[number, number, number, number]} Box  x0, y0, x1, y1 */
/** @typedef {{points: [number, number][], width: number, label: number}} Stroke */
/**
 * What marks an object on one frame.
 * @typedef {{points: Point[], strokes: Stroke[], box: Box | null, mask: string | null, scribbles: string | null, extent: string | null}} Marks
 */
/** @typedef {{id: number, name: string, color: string, frames: Record<string, Marks>}} Thing  an object that is marked */
/**
 * What does not change, from /api/clip.
 * @typedef {{
 *   name: string, frames: number, width: number, height: number, frame_rate: number, frame: number,
 *   suggested_below: number, notes: string[], model: string, timecode: string | null, first_number: number,
 *   has_sound: boolean, options: Record<string, {least: number, most: number, step: number, label: string, help: string}>,
 *   defaults: Edge,
 * }} Clip
 */
/** @typedef {"both" | "forward" | "backward" | "one"} Way  where a preview goes from the frame looked at */
/** @typedef {{on: boolean, way: Way, done: number, total: number, error: string, seconds_left: number | null}} Preview */
/** @typedef {{name: string, kind: "colour" | "alpha", parts: {index: number, object: number | null}[]}} ResultFile */
/**
 * A run, and what it wrote once it is done.
 * @typedef {{
 *   state: "starting" | "adapting" | "propagating" | "matting" | "joining" | "finishing" | "done" | "failed" | "cancelled",
 *   done: number, total: number | null, rate: number, share: number | null, seconds_left: number | null, error: string,
 *   number: number, seconds: number, frames: number, first_frame: number, notes: string[],
 *   outputs: {path: string}[], report: string | null, files: ResultFile[], has_before: boolean, edge: Edge, is_plain: boolean,
 * }} Run
 */
/**
 * A file on offer for the run.
 * @typedef {{path: string, kind: string, format: string, chosen: boolean, exists: boolean}} Output
 */
/**
 * The controls of the edge by their names; null where none is set.
 * @typedef {{
 *   clip_black: number, clip_white: number, remove_dots: number, fill_holes: number, grow: number, feather: number,
 *   invert: boolean, despill: "green" | "blue" | null, despill_strength: number, smooth: number,
 * }} Edge
 */
/**
 * Marks, choices, preview and run, from /api/state.
 * @typedef {{
 *   version: number, objects: Thing[], start: number | null, end: number | null,
 *   can_undo: boolean, can_redo: boolean, saved_as: string, command: string, set_command: string | null,
 *   outputs: Output[], folder: string, name: string, space: string, overwrite: boolean, report: boolean,
 *   prompt_model: string, prompt_models: string[],
 *   adapt_steps: number, suggested_adapt_steps: number, edge: Edge, edge_version: number, tips: string[],
 *   preview: Preview, run: Run | null, kept: number, jump?: {frame: number, object: number},
 * }} State
 */
/** @typedef {"source" | "overlay" | "alpha" | "checker" | "color" | "picture" | "difference"} View */
/** A mark that is chosen; a box has no index. */
/** @typedef {{object: number, frame: number, kind: "points" | "strokes" | "box", index: number}} Selected */
/**
 * Elements of the page by their ids; all others are any HTMLElement.
 * @typedef {{
 *   "adapt": HTMLInputElement,
 *   "add-object": HTMLButtonElement,
 *   "backdrop": HTMLInputElement,
 *   "brush": HTMLInputElement,
 *   "brush-value": HTMLOutputElement,
 *   "cancel": HTMLButtonElement,
 *   "choose-picture": HTMLButtonElement,
 *   "clear-frame": HTMLButtonElement,
 *   "clear-range": HTMLButtonElement,
 *   "copy": HTMLButtonElement,
 *   "copy-marks": HTMLButtonElement,
 *   "copy-set": HTMLButtonElement,
 *   "curve": HTMLCanvasElement,
 *   "edge-reset": HTMLButtonElement,
 *   "end": HTMLButtonElement,
 *   "ended": HTMLDialogElement,
 *   "frame": HTMLInputElement,
 *   "help": HTMLDialogElement,
 *   "help-open": HTMLButtonElement,
 *   "load-mask": HTMLButtonElement,
 *   "mask-file": HTMLInputElement,
 *   "more": HTMLDetailsElement,
 *   "next": HTMLButtonElement,
 *   "out-folder": HTMLInputElement,
 *   "out-name": HTMLInputElement,
 *   "overwrite": HTMLInputElement,
 *   "picture-file": HTMLInputElement,
 *   "play": HTMLButtonElement,
 *   "preview": HTMLButtonElement,
 *   "preview-way": HTMLSelectElement,
 *   "previous": HTMLButtonElement,
 *   "prompt-model": HTMLSelectElement,
 *   "redo": HTMLButtonElement,
 *   "report": HTMLInputElement,
 *   "result-close": HTMLButtonElement,
 *   "result-file": HTMLSelectElement,
 *   "run": HTMLButtonElement,
 *   "run-bar": HTMLProgressElement,
 *   "save-mask": HTMLAnchorElement,
 *   "save-still": HTMLAnchorElement,
 *   "set-in": HTMLButtonElement,
 *   "set-out": HTMLButtonElement,
 *   "slider": HTMLInputElement,
 *   "sound": HTMLButtonElement,
 *   "stage": HTMLCanvasElement,
 *   "strip": HTMLCanvasElement,
 *   "time-in": HTMLButtonElement,
 *   "time-out": HTMLButtonElement,
 *   "tip-close": HTMLButtonElement,
 *   "undo": HTMLButtonElement,
 *   "unsure": HTMLButtonElement,
 *   "watch": HTMLButtonElement,
 *   "wipe": HTMLButtonElement,
 *   "wipe-at": HTMLInputElement,
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
  backPicture: /** @type {ImageBitmap | null} */ (null), // the user's, behind the object
  wipe: /** @type {number | null} */ (null), // how far across the stage the source is shown, 0 to 1
  hidden: /** @type {Set<number>} */ (new Set()), // ids of objects that are not shown
  areMarksHidden: false,
  selected: /** @type {Selected | null} */ (null),
  curve: /** @type {number[]} */ ([]), // lowest confidence of each frame in hundredths, -1 where it is not known
  curves: /** @type {Record<string, number[]>} */ ({}), // the same of each object by its id
  cross: /** @type {Place | null} */ (null), // where the keyboard's crosshair is
  lastCross: /** @type {Place | null} */ (null), // where it was when it was left
  speed: 0, // of playing: 0 stands, 1 is real time, below 0 backward
  get isPlaying() {
    return model.speed !== 0;
  },
  timecodes: /** @type {Map<number, string>} */ (new Map()), // of frames, as far as they were asked for
  isResult: false, // whether the stage shows what the run wrote
  resultFile: 0, // which of the files
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
  if (wanted !== model.frame) set("frame", { frame: wanted, selected: null });
}

// The run whose files are watched; null before there are any.
export function doneRun() {
  const run = model.state?.run ?? null;
  return run !== null && run.state === "done" ? run : null;
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

let errorTopic = "";

/** @param {string} text */
export function say(text) {
  errorTopic = "";
  showStatus(text, false);
}

/**
 * Show an error until something else is said, or what it was about succeeds.
 * @param {string} text
 * @param {string} topic
 */
export function sayError(text, topic) {
  errorTopic = topic;
  showStatus(text, true);
}

/** @param {string} topic */
export function succeeded(topic) {
  if (errorTopic !== "" && errorTopic === topic) say("");
}

/**
 * @param {string} text
 * @param {boolean} isError
 */
function showStatus(text, isError) {
  const status = byId("status");
  status.textContent = text;
  status.classList.toggle("error", isError);
}
