// @ts-check
// The table of keys: the help is written from it, the handlers follow it, and a test presses each of them.

import { post } from "./api.js";
import { clampFrame, goTo, model, say, set } from "./model.js";
import { copyHere, goToMarked, hasAnswers, nextAnswer } from "./panel.js";
import { chooseView, closeResult, toggleResult, toggleWipe } from "./result.js";
import { crossOnScreen, leaveCross, moveCross, act, removeNearest, showCross } from "./cross.js";
import { fit, zoomBy } from "./stage.js";
import { nextUnsure, playBackward, playForward, setRange, stopPlaying, togglePlay, togglePreview, zoomTime } from "./timeline.js";
import { cancelDrag, removeSelected } from "./tools.js";

/**
 * One thing that keys do. `where` is empty for keys that work everywhere but in fields, "picture" for those that need
 * the focus on the picture, "crosshair" for those that need the crosshair there; these come first. A key whose `when`
 * says no keeps its usual meaning in the browser.
 * @typedef {{
 *   id: string, keys: string[], text: string, group: string, where?: "picture" | "crosshair",
 *   run: (key: string) => void, when?: () => boolean,
 * }} Key
 */

/** @type {Record<string, [number, number]>} */
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * The keys of all four arrows.
 * @param {string} modifier
 */
const arrows = (modifier) => Object.keys(ARROWS).map((name) => modifier + name);

/**
 * @param {number} by
 * @returns {(key: string) => void}
 */
const crossBy = (by) => (key) => moveCross(ARROWS[key.split("+").at(-1) ?? ""], by);

/** @param {number} by */
const step = (by) => () => goTo(model.frame + by);

/** @param {string} tool */
const choose = (tool) => () => set("tool", { tool });

/** @type {import("./model.js").View[]} */
const VIEWS = ["source", "overlay", "alpha", "checker", "color", "picture", "difference"];

// Whether the focus was last moved with the keyboard; see keys.js.
function isByKeys() {
  return document.body.classList.contains("by-keys");
}

function escape() {
  if (cancelDrag()) return;
  if (model.cross) leaveCross();
  else if (model.selected) set("select", { selected: null });
  else closeResult();
}

function toggleMarks() {
  set("marks", { areMarksHidden: !model.areMarksHidden });
  say(model.areMarksHidden ? "Marks are hidden (H shows them)" : "Marks are shown");
}

/** @type {Key[]} */
export const KEYS = [
  { id: "play", group: "Play", keys: ["Space"], text: "play and stop; held, it moves the picture", run: togglePlay },
  { id: "backward", group: "Play", keys: ["J"], text: "play backward; again, faster", run: playBackward },
  { id: "stop", group: "Play", keys: ["K"], text: "stop", run: stopPlaying },
  { id: "forward", group: "Play", keys: ["L"], text: "play forward; again, faster", run: playForward },
  { id: "before", group: "Play", keys: ["ArrowLeft", ","], text: "frame before", run: step(-1) },
  { id: "next", group: "Play", keys: ["ArrowRight", "."], text: "next frame", run: step(1) },
  { id: "before-ten", group: "Play", keys: ["Shift+ArrowLeft"], text: "ten frames back", run: step(-10) },
  { id: "next-ten", group: "Play", keys: ["Shift+ArrowRight"], text: "ten frames on", run: step(10) },
  { id: "first", group: "Play", keys: ["Home"], text: "first frame", run: () => goTo(0) },
  { id: "last", group: "Play", keys: ["End"], text: "last frame", run: () => goTo(clampFrame(Infinity)) },
  { id: "in", group: "Play", keys: ["I"], text: "in point", run: () => setRange("start") },
  { id: "out", group: "Play", keys: ["O"], text: "out point", run: () => setRange("end") },
  { id: "marked-before", group: "Play", keys: ["P"], text: "marked frame before", run: () => goToMarked(-1) },
  { id: "marked-next", group: "Play", keys: ["N"], text: "next marked frame", run: () => goToMarked(1) },
  { id: "unsure", group: "Play", keys: ["U"], text: "next frame that the model is unsure of", run: nextUnsure },
  { id: "time-in", group: "Play", keys: ["T"], text: "show fewer frames in the timeline", run: () => zoomTime(0.5) },
  { id: "time-out", group: "Play", keys: ["Shift+T"], text: "show more frames in the timeline", run: () => zoomTime(2) },

  { id: "point", group: "Mark", keys: ["Q"], text: "points", run: choose("point") },
  { id: "box", group: "Mark", keys: ["B"], text: "box", run: choose("box") },
  { id: "brush", group: "Mark", keys: ["S"], text: "brush", run: choose("brush") },
  { id: "hand", group: "Mark", keys: ["G"], text: "hand, moves the picture", run: choose("hand") },
  { id: "swap", group: "Mark", keys: ["X"], text: "object or background", run: () => set("tool", { label: 1 - model.label }) },
  { id: "smaller", group: "Mark", keys: ["["], text: "smaller brush", run: () => set("tool", { brush: Math.max(2, Math.round(model.brush / 1.25)) }) },
  { id: "larger", group: "Mark", keys: ["]"], text: "larger brush", run: () => set("tool", { brush: Math.min(200, Math.round(model.brush * 1.25) + 1) }) },
  { id: "remove-near", group: "Crosshair", keys: ["Delete"], text: "remove the nearest point", where: "crosshair", run: removeNearest },
  { id: "remove", group: "Mark", keys: ["Delete", "Backspace"], text: "remove the mark that is chosen", run: () => removeSelected() },
  { id: "answer", group: "Mark", keys: ["A"], text: "next answer to the first mark: part, object or group", run: nextAnswer },
  // Whoever goes through the page with Tab must not be caught here: it counts only after a click on the picture.
  { id: "answer-tab", group: "Mark", keys: ["Tab"], text: "the same, after a click on the picture", where: "picture", run: nextAnswer, when: () => hasAnswers() && !isByKeys() },
  { id: "hide", group: "Mark", keys: ["H"], text: "hide and show the marks", run: toggleMarks },
  { id: "copy", group: "Mark", keys: ["D"], text: "copy the marks of the nearest marked frame to this one", run: copyHere },
  { id: "undo", group: "Mark", keys: ["Ctrl+Z"], text: "undo", run: () => post("/api/undo") },
  { id: "redo", group: "Mark", keys: ["Ctrl+Shift+Z", "Ctrl+Y"], text: "redo", run: () => post("/api/redo") },

  ...VIEWS.map((view, n) => ({
    id: `view-${view}`, group: "See", keys: [String(n + 1)], run: () => chooseView(view),
    text: ["source", "overlay", "alpha", "over a checkerboard", "over a colour", "over a picture", "difference from the run before"][n],
  })),
  { id: "wipe", group: "See", keys: ["W"], text: "wipe against the source", run: toggleWipe },
  { id: "zoom-in", group: "See", keys: ["+", "="], text: "zoom in, as the wheel does", run: () => zoomBy(1.5, ...crossOnScreen()) },
  { id: "zoom-out", group: "See", keys: ["-"], text: "zoom out", run: () => zoomBy(1 / 1.5, ...crossOnScreen()) },
  { id: "fit", group: "See", keys: ["0"], text: "fit into the window", run: fit },
  { id: "preview", group: "See", keys: ["V"], text: "preview", run: togglePreview },
  { id: "result", group: "See", keys: ["R"], text: "watch the result, and back", run: toggleResult },

  { id: "cross", group: "Crosshair", keys: ["C"], text: "show and leave the crosshair", run: () => (model.cross ? leaveCross() : showCross()) },
  { id: "cross-enter", group: "Crosshair", keys: ["Enter"], text: "show the crosshair", where: "picture", run: showCross },
  { id: "cross-1", group: "Crosshair", keys: arrows(""), text: "move it by a pixel", where: "crosshair", run: crossBy(1) },
  { id: "cross-10", group: "Crosshair", keys: arrows("Shift+"), text: "by ten pixels", where: "crosshair", run: crossBy(10) },
  { id: "cross-50", group: "Crosshair", keys: arrows("Ctrl+"), text: "by fifty pixels", where: "crosshair", run: crossBy(50) },
  { id: "cross-object", group: "Crosshair", keys: ["Enter", "Space"], text: "mark the object; begin and end a box or a stroke", where: "crosshair", run: () => act(1) },
  { id: "cross-background", group: "Crosshair", keys: ["Backspace"], text: "mark background", where: "crosshair", run: () => act(0) },

  { id: "escape", group: "Page", keys: ["Escape"], text: "give up a drag; leave the crosshair, a mark, the result, a field", run: escape },
  { id: "help", group: "Page", keys: ["?"], text: "these keys", run: () => /** @type {HTMLDialogElement} */ (document.getElementById("help")).showModal() },
];
