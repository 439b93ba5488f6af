// @ts-check
// The keyboard: finds what a key means in the table, and writes the help from it.

import { byId, emit, model } from "./model.js";
import { KEYS } from "./keymap.js";
import { leaveCross } from "./cross.js";
import { holdSpace, releaseSpace } from "./tools.js";
import { togglePlay } from "./timeline.js";

/** @typedef {import("./keymap.js").Key} Key */

/** @type {Map<string, Key[]>} */
const meanings = new Map();

/** @param {Element} element */
function isTyping(element) {
  return element.matches("input:not([type=range]):not([type=checkbox]):not([type=radio]), textarea, select, [contenteditable]");
}

/**
 * A key as the table writes it: modifiers, then the letter in capitals or the name.
 * @param {KeyboardEvent} event
 */
function nameOf(event) {
  const key = event.key === " " ? "Space" : event.key.length === 1 ? event.key.toUpperCase() : event.key;
  // Shift makes other signs of the other keys: only letters and named keys are told apart by it.
  const isTold = event.key.length > 1 || key !== event.key.toLowerCase();
  return `${event.ctrlKey || event.metaKey ? "Ctrl+" : ""}${event.altKey ? "Alt+" : ""}${event.shiftKey && isTold ? "Shift+" : ""}${key}`;
}

/**
 * @param {string} name
 * @param {boolean} onStage
 */
function meaningOf(name, onStage) {
  const found = (meanings.get(name) ?? []).filter(({ when }) => when === undefined || when());
  const inCross = model.cross !== null && onStage;
  return found.find(({ where }) => where === "crosshair" && inCross) ?? found.find(({ where }) => where === undefined || (where === "picture" && onStage));
}

/**
 * Whether the element with the focus has a use of its own for a key.
 * @param {Element} focused
 * @param {string} name
 */
function isTaken(focused, name) {
  if (focused.matches("input[type=range]:not(#slider)")) return /Arrow|Home|End/.test(name);
  return (name === "Space" || name === "Enter") && focused.matches("button, a, summary, input");
}

/** @param {KeyboardEvent} event */
function pressed(event) {
  const focused = event.target instanceof HTMLElement ? event.target : document.body;
  if (document.querySelector("dialog[open]")) return;
  const name = nameOf(event);
  if (isTyping(focused)) {
    if (event.key === "Enter" || event.key === "Escape") focused.blur();
    return;
  }
  const meaning = isTaken(focused, name) ? undefined : meaningOf(name, focused === byId("stage"));
  if (meaning === undefined) return;
  event.preventDefault();
  // Space has two uses, and which one is known when it is let go.
  if (meaning.id === "play") holdSpace();
  else meaning.run(name);
}

/** @type {Record<string, string>} */
const SHOWN = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", Escape: "Esc" };

/** @param {string} key */
function shown(key) {
  return key.replace(/Arrow\w+|Escape/, (name) => SHOWN[name]);
}

function writeHelp() {
  const groups = [...new Set(KEYS.map(({ group }) => group))];
  byId("keys").replaceChildren(
    ...groups.flatMap((group) => {
      const title = Object.assign(document.createElement("h3"), { textContent: group });
      const list = document.createElement("dl");
      for (const { id, keys, text } of KEYS.filter((one) => one.group === group)) {
        const term = Object.assign(document.createElement("dt"), { textContent: keys.map(shown).join(" ") });
        term.dataset.key = id;
        list.append(term, Object.assign(document.createElement("dd"), { textContent: text }));
      }
      return [title, list];
    }),
  );
}

/**
 * A group of buttons of which one is pressed.
 * @param {HTMLElement} element
 * @param {string} attribute
 * @param {() => string | number} read
 * @param {(value: string) => void} choose
 * @returns {() => void}  shows the choice again
 */
export function choiceGroup(element, attribute, read, choose) {
  const buttons = [.../** @type {NodeListOf<HTMLElement>} */ (element.querySelectorAll(`[data-${attribute}]`))];
  /** @param {HTMLElement} button */
  const valueOf = (button) => button.dataset[attribute] ?? "";
  const show = () => {
    for (const button of buttons) button.setAttribute("aria-pressed", String(valueOf(button) === String(read())));
  };
  for (const button of buttons) button.addEventListener("click", () => choose(valueOf(button)));
  show();
  return show;
}

export function startKeys() {
  for (const key of KEYS) {
    for (const name of key.keys) meanings.set(name, [...(meanings.get(name) ?? []), key]);
  }
  writeHelp();
  window.addEventListener("keydown", (event) => {
    pressed(event);
    const movesFocus = event.key === "Tab" && !event.defaultPrevented;
    if (movesFocus || event.key === "Enter") document.body.classList.add("by-keys");
  });
  window.addEventListener("keyup", (event) => {
    if (event.key === " " && releaseSpace()) togglePlay();
  });
  window.addEventListener("blur", () => releaseSpace());
  window.addEventListener("pointerdown", () => document.body.classList.remove("by-keys"));
  // A click does not give the focus to a button: Space goes on to play.
  window.addEventListener("mousedown", (event) => {
    if (event.target instanceof Element && event.target.closest("button, summary")) event.preventDefault();
  });
  byId("stage").addEventListener("blur", () => model.cross && leaveCross());
  emit("tool");
}
