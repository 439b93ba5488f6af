// @ts-check
// Playing: in real time, faster, backward; frames that are late are left out. The clip's sound comes along.

import { tell } from "./api.js";
import { byId, emit, firstFrame, lastFrame, model, on, set } from "./model.js";
import { loadBoth, picture } from "./pictures.js";

const FASTEST = 8;

/** @type {HTMLAudioElement | null} */
let audio = null;
let hasSound = true;

export function togglePlay() {
  if (model.isPlaying) emit("stop");
  else play(1);
}

export function stopPlaying() {
  if (model.isPlaying) emit("stop");
}

export function playForward() {
  play(model.speed > 0 ? Math.min(model.speed * 2, FASTEST) : 1);
}

export function playBackward() {
  play(model.speed < 0 ? Math.max(model.speed * 2, -FASTEST) : -1);
}

// The frames that are played: of the result, those that were written.
function bounds() {
  const run = model.isResult ? model.state.run : null;
  return run ? { first: run.first_frame, last: run.first_frame + run.frames - 1 } : { first: firstFrame(), last: lastFrame() };
}

/** @param {number} speed */
async function play(speed) {
  const wasPlaying = model.isPlaying;
  set("play", { speed });
  if (wasPlaying) return; // the loop goes on from here, at the new speed
  let began = { at: 0, from: 0, speed: 0 };
  while (model.isPlaying) {
    const { first, last } = bounds();
    if (model.speed !== began.speed) {
      const isAtEnd = model.speed > 0 ? model.frame >= last : model.frame <= first;
      const from = isAtEnd || model.frame < first || model.frame > last ? (model.speed > 0 ? first : last) : model.frame;
      began = { at: performance.now(), from, speed: model.speed };
      startSound(from);
    }
    const due = began.from + Math.trunc(((performance.now() - began.at) / 1000) * model.clip.frame_rate * model.speed);
    if (due > last || due < first) {
      began.speed = 0; // round again
      model.frame = model.speed > 0 ? last : first;
      continue;
    }
    if (due !== model.frame || picture.frame !== due) {
      model.frame = due;
      try {
        await loadBoth(due);
      } catch (error) {
        tell(error);
        emit("stop");
      }
      emit("played");
    }
    await new Promise(requestAnimationFrame);
  }
}

/** @param {number} frame */
function startSound(frame) {
  if (!model.clip.has_sound || !hasSound || model.speed < 1) {
    audio?.pause();
    return;
  }
  audio ??= new Audio("/api/sound");
  audio.currentTime = frame / model.clip.frame_rate;
  audio.playbackRate = Math.min(model.speed, 4);
  // A browser that refuses plays without sound: the pictures are what counts.
  audio.play().catch(() => {});
}

export function startPlayer() {
  byId("sound").hidden = !model.clip.has_sound;
  byId("sound").addEventListener("click", () => {
    hasSound = !hasSound;
    byId("sound").setAttribute("aria-pressed", String(hasSound));
    if (!hasSound) audio?.pause();
    else if (model.isPlaying) startSound(model.frame);
  });
  on("stop", () => {
    audio?.pause();
    set("play", { speed: 0 });
    emit("frame");
  });
  on("play", () => {
    byId("play").setAttribute("aria-label", model.isPlaying ? "Stop" : "Play");
    byId("play").querySelector("path")?.setAttribute("d", model.isPlaying ? "M6 5h4v14H6zM14 5h4v14h-4z" : "M7 4v16l13-8z");
  });
}
