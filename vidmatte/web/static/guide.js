// @ts-check
// Guidance: how to begin, and after each step the next one that helps most. Tips that were read stay away.

import { post } from "./api.js";
import { byId, chosenObject, marksOf, model, on } from "./model.js";
import { hasAnswers } from "./panel.js";

/**
 * Tips in the order in which they are worth saying; the first that fits is shown.
 * @type {{id: string, text: string, fits: (marks: import("./model.js").Marks | null) => boolean}[]}
 */
const TIPS = [
  { id: "box", text: "Good. If parts are missing, drag a box round the object (B): it says how large it is.", fits: (marks) => marks !== null && marks.points.length > 0 && !marks.box && !marks.strokes.length },
  { id: "answers", text: "Too little or too much? Tab goes through the answers: a part, the object, a group.", fits: (marks) => marks !== null && hasAnswers() && marks.points.length + marks.strokes.length === 1 },
  { id: "strokes", text: "Stroke over what is missing (S), and with X over what does not belong to it.", fits: (marks) => marks !== null && marks.box !== null && !marks.strokes.length },
  { id: "preview", text: "Looks right? Preview (V) follows the object through the clip, beginning here.", fits: (marks) => marks !== null && !model.state.preview.on && model.state.preview.done === 0 },
  { id: "unsure", text: "Next unsure frame (U) leads to where one more mark helps most. Then run at full quality.", fits: () => model.state.preview.total > 0 && model.state.preview.done === model.state.preview.total && model.state.run === null },
  { id: "result", text: "Watch the result (R) at full size: wipe it against the source (W), or put a picture behind it (6).", fits: () => model.state.run?.state === "done" && !model.isResult },
];

/** @type {string | null} */
let shown = null;

function show() {
  const isNew = model.state.objects.every((one) => Object.keys(one.frames).length === 0);
  byId("guide").hidden = !isNew || model.isResult;
  const marks = marksOf(chosenObject());
  const isElsewhere = isNew || model.isPlaying || model.isResult; // nothing is marked there
  const tip = isElsewhere ? undefined : TIPS.find(({ id, fits }) => !model.state.tips.includes(id) && fits(marks));
  byId("tip").hidden = tip === undefined;
  if (tip && tip.id !== shown) byId("tip-text").textContent = tip.text;
  shown = tip?.id ?? null;
}

export function startGuide() {
  byId("tip-close").addEventListener("click", () => shown && post("/api/tips", { tip: shown }));
  on("state frame object result play mattes", show);
}
