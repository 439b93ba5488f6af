// @ts-check
// Finish: what is written and where, the run with its progress, single pictures, the command line.

import { post } from "./api.js";
import { byId, chosenObject, marksOf, model, on, say } from "./model.js";

const ACTIVE = ["starting", "adapting", "propagating", "matting", "joining", "finishing"];
const FIRST = 3;
/** @type {Record<string, string>} */
const STATES = {
  adapting: "adaptation",
  propagating: "following, frame",
  matting: "frame",
  joining: "joining",
  finishing: "finishing the files",
};
const COUNTED = ["adapting", "propagating", "matting", "joining"];
/** @type {Record<string, string>} */
const UNITS = { adapting: "steps", propagating: "frames", matting: "frames", joining: "segments" };

let outputsShown = "";

function showOutputs() {
  const key = JSON.stringify([model.state.outputs, model.state.overwrite]);
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
  if (output.exists) {
    const note = model.state.overwrite ? "exists, will be replaced" : "exists";
    name.append(Object.assign(document.createElement("span"), { className: "exists", textContent: note }));
  }
  return label;
}

function choose() {
  const chosen = [...byId("outputs").querySelectorAll("input")].flatMap((check, n) => (check.checked ? [n] : []));
  const adaptSteps = byId("adapt").checked ? model.state.suggested_adapt_steps : 0;
  post("/api/choices", { outputs: chosen, overwrite: byId("overwrite").checked, report: byId("report").checked, adapt_steps: adaptSteps });
}

async function choosePlace() {
  if (!(await post("/api/choices", { name: byId("out-name").value, folder: byId("out-folder").value }))) showPlace();
}

function showPlace() {
  const { name, folder, space } = model.state;
  for (const [field, value] of /** @type {[HTMLInputElement, string][]} */ ([[byId("out-name"), name], [byId("out-folder"), folder]])) {
    if (document.activeElement !== field) field.value = value;
  }
  byId("space").textContent = space;
}

// The matte of this frame as a picture with alpha, and alone: what other programs and --mask take.
function showStill() {
  const object = chosenObject();
  const isMarked = marksOf(object) !== null;
  for (const kind of /** @type {const} */ (["still", "mask"])) {
    const link = byId(`save-${kind}`);
    if (isMarked) link.href = `/api/save/${kind}/${object.id}/${model.frame}`;
    else link.removeAttribute("href");
    link.title = isMarked ? "" : "Mark the object on this frame first";
    link.setAttribute("aria-disabled", String(!isMarked));
  }
}

export function isRunning() {
  const { run } = model.state;
  return run !== null && ACTIVE.includes(run.state);
}

function showRun() {
  const { run, command, set_command: set, outputs, objects } = model.state;
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
  // A still that is marked may be the reference of the images beside it.
  byId("set").hidden = !set;
  byId("set-command").textContent = set ?? "";
  if (run !== null && isActive) showProgress(run);
  if (run?.state === "done") {
    const names = run.outputs.map((output) => output.path.split("/").at(-1)).join(", ");
    byId("run-summary").textContent = `${run.frames} frames in ${run.seconds} s: ${names}${run.report ? `; report in ${run.report}` : ""}`;
  }
}

/** @param {import("./model.js").Run} run */
function showProgress(run) {
  const bar = byId("run-bar");
  // Without a length the bar moves to and fro.
  if (run.share !== null) Object.assign(bar, { max: 1, value: run.share });
  else bar.removeAttribute("value");
  const count = `${run.done}${run.total ? ` of ${run.total}` : ""}`;
  const stage = STATES[run.state] ?? "starting";
  const parts = [COUNTED.includes(run.state) ? `${stage} ${count}` : stage];
  if (run.rate) parts.push(`${run.rate.toFixed(1)} ${UNITS[run.state]}/s`);
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

/**
 * Copy the command line that an element shows.
 * @param {"command" | "set-command"} id
 */
async function copyCommand(id) {
  try {
    await navigator.clipboard.writeText(byId(id).textContent ?? "");
    say("The command line was copied.");
  } catch {
    // Without the right to the clipboard it is at least chosen, to be copied by hand.
    getSelection()?.selectAllChildren(byId(id));
    say("Press Ctrl+C to copy the command line.");
  }
}

export function startFinish() {
  byId("run").addEventListener("click", () => post("/api/run"));
  byId("cancel").addEventListener("click", () => post("/api/cancel"));
  byId("copy").addEventListener("click", () => copyCommand("command"));
  byId("copy-set").addEventListener("click", () => copyCommand("set-command"));
  for (const id of ["overwrite", "report", "adapt"]) byId(id).addEventListener("change", choose);
  for (const id of ["out-name", "out-folder"]) byId(id).addEventListener("change", choosePlace);
  on("state", () => {
    byId("overwrite").checked = model.state.overwrite;
    byId("report").checked = model.state.report;
    byId("adapt").checked = model.state.adapt_steps > 0;
    showOutputs();
    showPlace();
    showRun();
    announce();
  });
  on("state frame object", showStill);
}
