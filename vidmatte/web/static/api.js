// @ts-check
// Requests to the server. Everything that changes something answers with the new state.

import { emit, model, sayError, succeeded } from "./model.js";

export class ApiError extends Error {}

/** @param {Response} response */
async function answerOf(response) {
  if (response.ok) return response;
  const text = await response.text();
  let message = text;
  try {
    message = JSON.parse(text).error ?? text;
  } catch {
    // Refusals of the server itself are plain text.
  }
  throw new ApiError(message || `the server answered ${response.status}`);
}

/**
 * @param {string} path
 * @returns {Promise<any>}
 */
export async function getJson(path) {
  return (await answerOf(await fetch(path))).json();
}

/**
 * A picture with what was said beside it; null if there is none, or a newer one was asked for.
 * @param {string} path
 * @param {RequestInit} [options]
 */
export async function getPicture(path, options) {
  const response = await fetch(path, options);
  if (response.status === 204 || response.status === 409) return null;
  await answerOf(response);
  succeeded(topicOf(path));
  return { bitmap: await createImageBitmap(await response.blob()), headers: response.headers };
}

let posts = 0;
/** @type {Promise<unknown>} */
let queue = Promise.resolve();

/**
 * Post, and tell whether it went well. Posts go one after the other, so that marks are made in the order of the clicks.
 * @param {string} path
 * @param {object} body
 * @returns {Promise<boolean>}
 */
export function post(path, body = {}) {
  const isRaw = body instanceof Blob;
  posts += 1;
  const sent = queue.then(async () => {
    try {
      const response = await answerOf(
        await fetch(path, {
          method: "POST",
          headers: { "content-type": isRaw ? "application/octet-stream" : "application/json" },
          body: isRaw ? body : JSON.stringify(body),
        }),
      );
      if (response.status !== 204) accept(await response.json());
      // Once the page shows what came of it.
      succeeded(topicOf(path));
      succeeded(UNREACHABLE);
      return true;
    } catch (error) {
      tell(error, topicOf(path));
      return false;
    }
  });
  queue = sent;
  return sent;
}

/**
 * @param {string} op
 * @param {object} values
 */
export function edit(op, values) {
  return post("/api/edit", { op, ...values });
}

// The state as it is now; an answer that a post has overtaken is dropped.
export async function refresh() {
  const before = posts;
  await queue;
  try {
    const state = await getJson("/api/state");
    succeeded(UNREACHABLE);
    if (posts === before) accept(state);
  } catch (error) {
    tell(error);
  }
}

/** @param {import("./model.js").State} state */
function accept(state) {
  model.state = state;
  if (!state.objects.some((one) => one.id === model.object)) model.object = state.objects[0].id;
  emit("state");
}

const UNREACHABLE = "server";

/**
 * What a request is about: errors of it go when a later one succeeds.
 * @param {string} path
 */
export function topicOf(path) {
  const [, name] = path.split("?")[0].split("/").filter(Boolean);
  return name === "undo" || name === "redo" || name === "mask" || name === "copy" ? "edit" : name ?? path;
}

/** @param {unknown} error */
export function tell(error, topic = "") {
  const isGone = error instanceof TypeError;
  if (!isGone && !(error instanceof ApiError)) console.error(error);
  const message = error instanceof Error ? error.message : String(error);
  if (isGone) sayError("The server does not answer: was vidmatte stopped? Your marks are saved.", UNREACHABLE);
  else sayError(message, topic);
}
