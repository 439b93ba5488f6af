// @ts-check
// Finish: what is written, the run with its progress, and the result beside the input.

import { getPicture, post, tell } from "./api.js";
import { compose } from "./composite.js";
import { byId, emit, firstFrame, model, on, say, set } from "./model.js";
import { maskOf, smallFrame } from "./pictures.js";

const ACTIVE = ["starting", "adapting", "matting"];
const FIRST = 3;
/** @type {Record<string, string>} */
const STATES = { starting: "starting", adapting: "adaptation", matting: "frame" };

let outputsShown = "";

function showOutputs() {
  const key = JSON.stringify(model.state.outputs);
  if (key === outputsShown) return;
  outputsShown = key;
  const active = document.activeElement;
  const focused = [...byId("outputs").querySelectorAll("input")].findIndex((check) => check === active);
  const labels = model.state.outputs.map(outputLabel);
  // What is written by default comes first; the rest is a click away, unless it was chosen.
  byId("outputs-first").replaceChildren(...labels.filter((_, n) => n < FIRST));
  byId("outputs-more").replaceChildren(...labels.filter((_, n) => n >= FIRST));
  if (model.state.outputs.some((output, n) => output.chosen && n >= FIRST)) byId("more").open = true;
  if (focused >= 0) byId("outputs").querySelectorAll("input")[focused]?.focus();
}

/** @param {import("./model.js").Output} output */
function outputLabel(output) {
  const check = Object.assign(document.createElement("input"), { type: "checkbox", checked: output.chosen });
  check.addEventListener("change", choose);
  const [format, ...details] = output.format.split(",");
  const kind = `${format}, ${output.kind === "colour" ? "colour and alpha" : "alpha alone"}`;
  const name = Object.assign(document.createElement("span"), { className: "name", textContent: output.path.split("/").at(-1) });
  name.append(Object.assign(document.createElement("span"), { className: "dim", textContent: kind }));
  const label = Object.assign(document.createElement("label"), { title: [output.path, ...details].join("; ") });
  label.append(check, name);
  return label;
}

function choose() {
  const chosen = [...byId("outputs").querySelectorAll("input")].flatMap((check, n) => (check.checked ? [n] : []));
  const adaptSteps = byId("adapt").checked ? model.state.suggested_adapt_steps : 0;
  const smooth = byId("smooth").checked ? model.state.smooth || 0.5 : 0;
  post("/api/choices", { outputs: chosen, overwrite: byId("overwrite").checked, smooth, adapt_steps: adaptSteps });
}

export function isRunning() {
  const { run } = model.state;
  return run !== null && ACTIVE.includes(run.state);
}

function showRun() {
  const { run, command, outputs, objects } = model.state;
  const isActive = isRunning();
  byId("running").hidden = !isActive;
  byId("run").hidden = isActive;
  byId("run").disabled = !outputs.some((one) => one.chosen) || objects.every((one) => !Object.keys(one.frames).length);
  byId("run-done").hidden = run?.state !== "done";
  byId("run-error").hidden = run?.state !== "failed";
  const why = run?.state === "failed" ? run.error : "";
  // Only when it changes: screen readers would say it again.
  if (byId("run-error").textContent !== why) byId("run-error").textContent = why;
  byId("command").textContent = command;
  byId("copy").disabled = !command;
  if (run !== null && isActive) showProgress(run);
  if (run?.state === "done") {
    const names = run.outputs.map((output) => output.path.split("/").at(-1)).join(", ");
    byId("run-summary").textContent = `${run.frames} frames in ${run.seconds} s: ${names}`;
    byId("watch").disabled = !run.shown.length;
  }
}

/** @param {import("./model.js").Run} run */
function showProgress(run) {
  const bar = byId("run-bar");
  if (run.total) Object.assign(bar, { max: run.total, value: run.done });
  else bar.removeAttribute("value");
  const parts = [run.state === "starting" ? "starting" : `${STATES[run.state]} ${run.done}${run.total ? ` of ${run.total}` : ""}`];
  if (run.rate) parts.push(run.state === "matting" ? `${run.rate.toFixed(1)} frames/s` : `${run.rate.toFixed(1)} steps/s`);
  if (run.seconds_left !== null) parts.push(`${Math.ceil(run.seconds_left)} s left`);
  byId("run-text").textContent = parts.join(", ");
}

/** @type {string | null} */
let stateBefore = null;

// What came of the run is said once, when it ends.
function announce() {
  const state = model.state.run?.state ?? null;
  if (stateBefore !== null && state !== stateBefore) {
    if (state === "done") say("The run is complete.");
    if (state === "cancelled") say("The run was cancelled; no output was written. Of a long clip, what is finished is kept for the same run.");
  }
  stateBefore = state;
}

// The result: input, alpha and object over a colour, all of the current frame.

// The run whose result is shown: there is one then.
function shownRun() {
  return /** @type {import("./model.js").Run} */ (model.state.run);
}

function resultFrame() {
  const { first_frame: first, frames } = shownRun();
  return Math.min(Math.max(model.frame - first, 0), frames - 1);
}

function webm() {
  return shownRun().outputs.findIndex((output) => output.is_webm);
}

async function showResult() {
  if (!model.isResult || model.state.run?.state !== "done") return;
  const frame = model.frame;
  try {
    const image = await smallFrame(shownRun().first_frame + resultFrame());
    const masks = await Promise.all(chosenResults().map((n) => getPicture(`/api/result/${n}/${resultFrame()}`)));
    if (frame !== model.frame || !model.isResult) return;
    const found = masks.filter((one) => one !== null);
    const mattes = found.map((one) => ({ mask: maskOf(one.bitmap), object: { color: "#fff" } }));
    compose(byId("result-input"), image, [], "source", "");
    compose(byId("result-alpha"), image, mattes, "alpha", "");
    compose(byId("result-canvas"), image, mattes, "color", byId("result-color").value);
  } catch (error) {
    tell(error);
  }
  const video = byId("result-video");
  if (!video.hidden && video.paused) video.currentTime = (resultFrame() + 0.5) / model.clip.frame_rate;
}

// One output of each object: the first ones on the list are those with alpha alone.
function chosenResults() {
  const { shown } = shownRun();
  return shown.flatMap((one, n) => (shown.findIndex((other) => other.object === one.object) === n ? [n] : []));
}

function openResult() {
  if (model.isPlaying) emit("stop");
  set("result", { isResult: true });
  byId("stage-area").hidden = true;
  byId("result-area").hidden = false;
  const video = byId("result-video");
  const index = webm();
  video.hidden = index < 0;
  byId("result-canvas").hidden = index >= 0;
  byId("result-kind").textContent = index < 0 ? "Over a colour" : "WebM over a colour";
  if (index >= 0) video.src = `/api/file/${index}?${encodeURIComponent(shownRun().seconds)}`;
  paintBackdrop();
  if (model.frame < firstFrame()) set("frame", { frame: firstFrame() });
  showResult();
  byId("result-close").focus();
}

function closeResult() {
  if (model.isPlaying) emit("stop");
  set("result", { isResult: false });
  byId("result-video").removeAttribute("src");
  byId("result-area").hidden = true;
  byId("stage-area").hidden = false;
  byId("stage").focus();
}

// The box around the result has the clip's shape, so that no colour shows beside it.
function paintBackdrop() {
  byId("result-over").style.aspectRatio = `${model.clip.width} / ${model.clip.height}`;
  byId("result-over").style.background = byId("result-color").value;
}

function playVideo() {
  const video = byId("result-video");
  if (video.hidden) return;
  if (model.isPlaying) {
    video.currentTime = (resultFrame() + 0.5) / model.clip.frame_rate;
    video.play().catch(tell);
  } else video.pause();
}

async function copyCommand() {
  try {
    await navigator.clipboard.writeText(model.state.command);
    say("The command line was copied.");
  } catch {
    // Without the right to the clipboard it is at least chosen, to be copied by hand.
    getSelection()?.selectAllChildren(byId("command"));
    say("Press Ctrl+C to copy the command line.");
  }
}

export function startFinish() {
  byId("run").addEventListener("click", () => post("/api/run"));
  byId("cancel").addEventListener("click", () => post("/api/cancel"));
  byId("copy").addEventListener("click", copyCommand);
  byId("watch").addEventListener("click", openResult);
  byId("result-close").addEventListener("click", closeResult);
  byId("result-color").addEventListener("input", () => (paintBackdrop(), showResult()));
  for (const id of ["overwrite", "smooth", "adapt"]) byId(id).addEventListener("change", choose);
  on("state", () => {
    byId("overwrite").checked = model.state.overwrite;
    byId("smooth").checked = model.state.smooth > 0;
    byId("adapt").checked = model.state.adapt_steps > 0;
    showOutputs();
    showRun();
    announce();
    if (model.isResult && model.state.run?.state !== "done") closeResult();
  });
  on("frame played", showResult);
  on("play", playVideo);
}
