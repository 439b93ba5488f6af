// @ts-check
// The page before the picker: a click or a drop opens a clip of the folder.

/** @typedef {{folder: string, clips: {name: string, detail: string, size: number}[], error: string, opening: boolean}} Choice */

const LOOK_MS = 400;
let isOpening = false;

/** @param {string} id */
const part = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/**
 * @param {string} text
 * @param {boolean} isError
 */
function tell(text, isError = false) {
  part("status").textContent = text;
  part("status").classList.toggle("error", isError);
}

/**
 * @param {string} path
 * @param {object} body
 */
async function post(path, body) {
  const response = await fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  if (!response.ok) throw new Error((await response.json()).error);
}

/** @param {string} name */
async function open(name) {
  try {
    await post("/api/choose", { name });
    tell(`Opening ${name}`);
    isOpening = true;
    look();
  } catch (error) {
    tell(String(error instanceof Error ? error.message : error), true);
  }
}

// The same address shows the picker as soon as the clip is open.
async function look() {
  const response = await fetch("/api/choices-of-clips");
  if (response.status === 404) {
    location.reload();
    return;
  }
  const choice = /** @type {Choice} */ (await response.json());
  if (choice.error) {
    isOpening = false;
    tell(choice.error, true);
  }
  show(choice);
  if (isOpening) setTimeout(look, LOOK_MS);
}

/** @type {Choice["clips"]} */
let listed = [];

/** @param {Choice} choice */
function show({ folder, clips }) {
  listed = clips;
  part("folder").textContent = folder;
  const items = clips.map(({ name, detail }) => {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: name, disabled: isOpening });
    button.append(Object.assign(document.createElement("span"), { className: "dim", textContent: detail }));
    button.addEventListener("click", () => open(name));
    const item = document.createElement("li");
    item.append(button);
    return item;
  });
  part("clips").replaceChildren(...items);
  if (!clips.length) tell("There is no clip in this folder. Start vidmatte pick with the path of one, or try it with: vidmatte pick --sample");
}

window.addEventListener("dragover", (event) => event.preventDefault());
window.addEventListener("drop", (event) => {
  event.preventDefault();
  const file = event.dataTransfer?.files[0];
  if (!file) return;
  const known = listed.find(({ name, size }) => name === file.name && size === file.size);
  if (known) open(known.name);
  else tell(`${file.name} is not in this folder, and a browser does not say where it lies. Move it here, or run: vidmatte pick PATH`, true);
});
part("end").addEventListener("click", () => post("/api/end", {}).then(() => tell("The picker has ended. You can close this page.")));
look();
