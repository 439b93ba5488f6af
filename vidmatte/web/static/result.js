// @ts-check
// The result on the stage: what the run wrote, in each view, beside the source and the run before.

import { tell } from "./api.js";
import { byId, doneRun, emit, goTo, model, on, say, set } from "./model.js";

export function toggleResult() {
  if (model.isResult) closeResult();
  else openResult();
}

export function openResult() {
  const run = doneRun();
  if (run === null || !run.files.length) {
    say("There is no result yet: run at full quality first.");
    return;
  }
  if (model.isPlaying) emit("stop");
  if (model.resultFile >= run.files.length) model.resultFile = 0;
  if (model.frame < run.first_frame || model.frame >= run.first_frame + run.frames) goTo(run.first_frame);
  set("result", { isResult: true, selected: null });
  byId("stage").focus();
}

export function closeResult() {
  if (!model.isResult) return;
  if (model.isPlaying) emit("stop");
  if (model.view === "difference") set("view", { view: "overlay" });
  set("result", { isResult: false });
}

let filesShown = "";

function show() {
  const run = doneRun();
  const bar = byId("result-bar");
  bar.hidden = !model.isResult;
  byId("stage").classList.toggle("result", model.isResult);
  byId("watch").disabled = model.isResult || !run?.files.length;
  const difference = /** @type {HTMLElement} */ (document.querySelector("[data-view=difference]"));
  difference.hidden = !model.isResult || !run?.has_before;
  if (run === null) return;
  const key = JSON.stringify([run.number, run.files]);
  if (key !== filesShown) {
    filesShown = key;
    const options = run.files.map((file, n) => new Option(file.name, String(n)));
    byId("result-file").replaceChildren(...options);
  }
  byId("result-file").value = String(model.resultFile);
  note();
}

// What is shown of the edge: the controls act on the files of a run that left the edge alone.
function note() {
  const run = doneRun();
  if (!run) return;
  const isSame = JSON.stringify(run.edge) === JSON.stringify(model.state.edge);
  const isOutside = model.frame < run.first_frame || model.frame >= run.first_frame + run.frames;
  let text = isSame ? "as written" : "with the edge as it is set now; run again to write it";
  if (!isSame && (!run.is_plain || run.edge.smooth !== model.state.edge.smooth)) text = "as written; run again for the new edge";
  byId("result-note").textContent = isOutside ? "this frame was not written" : text;
}

/** @param {File} file */
async function takePicture(file) {
  try {
    model.backPicture = await createImageBitmap(file);
    set("view", { view: "picture" });
  } catch (error) {
    tell(new Error(`${file.name} is no picture that the browser can show; choose a PNG or JPEG`, { cause: error }));
  }
}

function showView() {
  byId("choose-picture").hidden = model.view !== "picture";
  byId("wipe").setAttribute("aria-pressed", String(model.wipe !== null));
  byId("wipe-at").hidden = model.wipe === null;
  if (model.wipe !== null) byId("wipe-at").value = String(Math.round(model.wipe * 1000));
}

/** @param {import("./model.js").View} view */
export function chooseView(view) {
  if (view === "difference" && !(model.isResult && doneRun()?.has_before)) {
    say("There is a difference to see once two runs are complete: watch the result of the second.");
    return;
  }
  set("view", { view });
  if (view === "picture" && model.backPicture === null) byId("picture-file").click();
}

export function toggleWipe() {
  set("wipe", { wipe: model.wipe === null ? 0.5 : null });
}

export function startResult() {
  byId("watch").addEventListener("click", openResult);
  byId("result-close").addEventListener("click", closeResult);
  byId("result-file").addEventListener("change", () => set("result", { resultFile: Number(byId("result-file").value) }));
  byId("choose-picture").addEventListener("click", () => byId("picture-file").click());
  byId("picture-file").addEventListener("change", () => {
    const file = byId("picture-file").files?.[0];
    if (file) takePicture(file);
    byId("picture-file").value = "";
  });
  byId("wipe").addEventListener("click", toggleWipe);
  byId("wipe-at").addEventListener("input", () => set("wipe", { wipe: Number(byId("wipe-at").value) / 1000 }));
  on("view wipe", showView);
  on("result", show);
  on("frame", note);
  on("state", () => {
    if (model.isResult && doneRun() === null) closeResult();
    show();
  });
  showView();
}
