// @ts-check
// The picker's page: puts the parts together, and asks the server how far it is.

import { getJson, post, refresh, tell } from "./api.js";
import { startEdge } from "./edge.js";
import { isRunning, startFinish } from "./finish.js";
import { startGuide } from "./guide.js";
import { choiceGroup, startKeys } from "./keys.js";
import { byId, emit, model, on, set } from "./model.js";
import { startPanel } from "./panel.js";
import { chooseView, startResult } from "./result.js";
import { fit, zoomBy } from "./stage.js";
import { followProgress, startTimeline } from "./timeline.js";
import { startTools } from "./tools.js";

const ACTIVE_MS = 400;
const IDLE_MS = 4000; // another tab may have changed something

function startBar() {
  const { clip } = model;
  document.title = `${clip.name} - vidmatte`;
  byId("clip-name").textContent = clip.name;
  const rate = Number(clip.frame_rate.toFixed(3));
  byId("clip-facts").textContent = `${clip.width} x ${clip.height}, ${rate} frames/s, ${clip.frames} frames`;
  byId("stage").setAttribute("aria-label", `Frame of ${clip.name}`);
  const showView = choiceGroup(byId("views"), "view", () => model.view, (view) => chooseView(/** @type {import("./model.js").View} */ (view)));
  const showTool = choiceGroup(byId("tools"), "tool", () => model.tool, (tool) => set("tool", { tool }));
  const showLabel = choiceGroup(byId("labels"), "label", () => model.label, (label) => set("tool", { label: Number(label) }));
  on("view", showView);
  on("tool", showTool);
  on("tool", showLabel);
  byId("backdrop").addEventListener("input", () => set("view", { backdrop: byId("backdrop").value, view: "color" }));
  byId("brush").addEventListener("input", () => set("tool", { brush: Number(byId("brush").value) }));
  byId("zoom").addEventListener("click", fit);
  byId("zoom-in").addEventListener("click", () => zoomBy(1.5));
  byId("zoom-out").addEventListener("click", () => zoomBy(1 / 1.5));
  byId("help-open").addEventListener("click", () => byId("help").showModal());
  byId("end").addEventListener("click", async () => {
    if (isRunning() && !window.confirm("A run is under way. End the picker and cancel it?")) return;
    if (await post("/api/end")) {
      hasEnded = true;
      byId("ended").showModal();
    }
  });
}

let hasEnded = false;

// Whether something is computed whose progress is worth asking for often.
function isActive() {
  const { preview } = model.state;
  return isRunning() || (preview.on && preview.done < preview.total && !preview.error);
}

/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;

// The server is asked, not listened to: a laptop that slept, or a tunnel that broke, needs no new connection.
function schedule() {
  clearTimeout(timer);
  if (!hasEnded) timer = setTimeout(() => refresh().finally(schedule), isActive() ? ACTIVE_MS : IDLE_MS);
}

async function start() {
  model.clip = await getJson("/api/clip");
  model.state = await getJson("/api/state");
  Object.assign(model, { frame: model.clip.frame, object: model.state.objects[0].id });
  startBar();
  startPanel();
  startEdge();
  startFinish();
  startResult();
  startGuide();
  startTools();
  startKeys();
  startTimeline();
  fit();
  on("state", () => {
    followProgress().catch(tell);
    schedule();
  });
  emit("state");
  emit("frame");
  emit("view");
}

start().catch(tell);
