// What the page knows, and who is told when it changes. The marks themselves live in the server.

export const model = {
  clip: null, // what does not change, from /api/clip
  state: null, // marks, choices, preview and run, from the server
  frame: 0,
  object: 1, // id of the object that is being marked
  tool: "point",
  label: 1,
  brush: 24, // diameter, in pixels of the picture
  view: "overlay",
  backdrop: "#2f7d4f",
  hidden: new Set(), // ids of objects that are not shown
  curve: [], // confidence of each frame in hundredths, -1 where it is not known
  cross: null, // place of the keyboard's crosshair, {x, y}
  isPlaying: false,
  isResult: false, // whether the result is watched in place of the marks
};

const listeners = new Map();

export function on(events, listener) {
  for (const event of events.split(" ")) listeners.set(event, [...(listeners.get(event) ?? []), listener]);
}

export function emit(event) {
  for (const listener of listeners.get(event) ?? []) listener();
}

export function set(event, changes) {
  Object.assign(model, changes);
  emit(event);
}

export function chosenObject() {
  const objects = model.state.objects;
  return objects.find((one) => one.id === model.object) ?? objects[0];
}

export function marksOf(object, frame = model.frame) {
  return object.frames[frame] ?? null;
}

export function firstFrame() {
  return model.state.start ?? 0;
}

export function lastFrame() {
  return model.state.end ?? model.clip.frames - 1;
}

export function clampFrame(frame) {
  return Math.min(Math.max(Math.round(frame) || 0, 0), model.clip.frames - 1);
}

export function goTo(frame) {
  const wanted = clampFrame(frame);
  if (wanted !== model.frame) set("frame", { frame: wanted });
}

export function byId(id) {
  return document.getElementById(id);
}

export function say(text, isError = false) {
  const status = byId("status");
  status.textContent = text;
  status.classList.toggle("error", isError);
}
