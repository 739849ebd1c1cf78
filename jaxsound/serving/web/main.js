/** The page's parts put together: where a sound comes from, who is told what. */

import * as api from "./api.js";
import { bytes, hertz } from "./format.js";
import { History } from "./history.js";
import { Live } from "./live.js";
import { devices, impossible, Microphone, NoMicrophone } from "./microphone.js";
import { Player } from "./player.js";
import { Plots } from "./plots.js";
import { Presence } from "./presence.js";
import { Recording } from "./recording.js";
import * as result from "./result.js";

/** @typedef {import("./types.js").Model} Model */

/** @param {string} id @returns {any} */
const element = (id) => document.getElementById(id);

const presence = new Presence();
const plots = new Plots(element("plots"));
const player = new Player(element("plots"));
const history = new History();

/** @type {?Model} */
let model = null;
/** @type {?Recording} */
let recording = null;
/** @type {?Live} */
let live = null;
let turns = 0; // files taken so far: of two that wait, the last one counts

/** @param {string} text "" takes the last one away */
function problem(text) {
  element("problem").textContent = text;
  element("problem").hidden = !text;
}

/** Says whether the server is there; "it is back" stays for some seconds. @param {string} before */
function announce(before) {
  const line = element("server");
  const { state } = presence;
  const texts = {
    gone: "The server does not answer. This page looks for it and says when it is back.",
    unready: "The server is starting or stopping. This page waits for it.",
  };
  const missed = before === "gone" || before === "unready";
  line.textContent = texts[/** @type {"gone"} */ (state)] ?? (missed ? "The server is back." : "");
  line.hidden = !line.textContent;
  if (state === "ready" && missed) {
    setTimeout(() => (line.hidden ||= presence.state === "ready"), 6000);
  }
}

/** Learns what the server's model is, or asks for the token that this takes. */
async function introduce() {
  try {
    model = await api.model();
  } catch (error) {
    await explain(error, "");
    return;
  }
  const { version, classes, sample_rate: rate, window_seconds: seconds, folds } = model;
  const parts = folds > 1 ? `mean of ${folds} folds, ` : "";
  element("model").textContent =
    `Model ${version}: ${parts}${classes.length} classes, ` +
    `hears ${Number(seconds.toFixed(2))} s at ${hertz(rate)}`;
  element("limit").textContent = `, up to ${bytes(model.max_bytes)}`;
  if (model.token && !api.token()) askForToken("");
}

/** @param {string} why */
function askForToken(why) {
  element("token-form").hidden = false;
  if (why) problem(why);
  element("token").focus();
}

/** Tells people what went wrong. @param {unknown} error @param {string} what was refused */
async function explain(error, what) {
  if (error instanceof api.Gone) {
    await presence.check();
    if (presence.state === "ready") problem("The connection broke; try again.");
  } else if (error instanceof api.Refusal && error.status === 401) {
    askForToken(api.token() ? "The server does not accept this token." : "");
  } else if (error instanceof api.Refusal) {
    problem(what ? `The server refused ${what}: ${error.message}` : error.message);
  } else if (error instanceof NoMicrophone) {
    problem(error.message);
  } else {
    throw error;
  }
}

/** Takes a recording; one whose server is gone is sent again when it is back. @param {File} file */
async function take(file) {
  const turn = ++turns;
  await silence();
  recording?.end();
  problem("");
  if (!model) {
    await presence.check();
    if (presence.state !== "ready") problem(`${file.name} waits for the server.`);
    await presence.ready();
    if (turn !== turns) return;
    problem("");
    await introduce();
  }
  if (model && file.size > model.max_bytes) {
    const most = bytes(model.max_bytes);
    problem(`${file.name} has ${bytes(file.size)}; this server takes ${most} at most.`);
    return;
  }
  if (!model || turn !== turns) return;
  const mine = new Recording(file, model, plots, player);
  recording = mine;
  const drawn = mine.draw();
  await send(mine);
  await drawn;
  if (!mine.ended && !mine.answer && !mine.view.wave && !element("problem").hidden) result.close();
}

/** @param {Recording} mine */
async function send(mine) {
  const { name } = mine.file;
  while (!mine.ended) {
    try {
      const { seconds, silent, label, classes, model: version } = await mine.ask();
      const probability = silent ? null : (classes[0]?.probability ?? null);
      const time = new Date().toISOString();
      history.add({ time, source: name, seconds, silent, label, probability, model: version });
      return;
    } catch (error) {
      if (mine.ended) return;
      result.say("");
      await explain(error, name);
      if (!(error instanceof api.Gone) || presence.state === "ready") return;
      result.say("Waiting for the server…");
      await presence.ready();
    }
  }
}

async function listen() {
  if (live) return silence();
  problem("");
  element("listen").disabled = true;
  try {
    if (!model) await introduce();
    if (!model) return;
    state("Waiting for the browser's permission…");
    const microphone = await Microphone.open(element("device").value);
    recording?.end();
    live = new Live(microphone, model, plots, presence);
    const mine = live;
    mine.addEventListener("state", (event) => state(/** @type {CustomEvent} */ (event).detail));
    mine.addEventListener("refused", async (event) => {
      await silence();
      explain(/** @type {CustomEvent} */ (event).detail, "the sound");
    });
    microphone.addEventListener("ended", async () => {
      if (live !== mine) return;
      await silence();
      problem("The microphone was disconnected, or its permission was taken back.");
    });
    element("listen").textContent = "Stop";
    state("Connecting…");
    mine.start();
    showDevices();
  } catch (error) {
    state("");
    await explain(error, "the sound");
  } finally {
    element("listen").disabled = false;
  }
}

/** Stops listening, if it is under way. */
async function silence() {
  if (!live) return;
  const mine = live;
  live = null;
  element("listen").textContent = "Listen";
  state("");
  const entry = await mine.stop();
  if (entry) history.add(entry);
}

/** @param {string} text */
function state(text) {
  if (element("live-state").textContent !== text) element("live-state").textContent = text;
}

async function showDevices() {
  const list = element("device");
  const chosen = list.value;
  const found = (await devices()).filter(({ deviceId }) => deviceId && deviceId !== "default");
  const options = found.map(
    ({ deviceId, label }, i) => new Option(label || `Microphone ${i + 1}`, deviceId),
  );
  list.replaceChildren(list.options[0], ...options);
  list.value = options.some((option) => option.value === chosen) ? chosen : "";
}

function takeFiles(/** @type {?FileList | undefined} */ files) {
  if (files?.length) take(files[0]);
}

function connectControls() {
  const input = element("file");
  element("choose").addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    takeFiles(input.files);
    input.value = ""; // so that the same file can be chosen again
  });
  // The whole page takes a drop: one that misses would make the browser leave the page.
  for (const name of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      element("drop").classList.toggle("over", name === "dragover");
      if (name === "drop") takeFiles(/** @type {DragEvent} */ (event).dataTransfer?.files);
    });
  }
  element("listen").addEventListener("click", listen);
  element("token-form").addEventListener("submit", async (/** @type {Event} */ event) => {
    event.preventDefault();
    api.keepToken(element("token").value);
    element("token-form").hidden = true;
    problem("");
    await introduce();
    if (recording && !recording.ended && !recording.answer) send(recording);
  });
}

function connectMicrophone() {
  const why = impossible();
  if (why) {
    element("listen").disabled = element("device").disabled = true;
    state(why);
    return;
  }
  showDevices();
  navigator.mediaDevices.addEventListener("devicechange", showDevices);
}

/** @type {string} */
let before = presence.state;
presence.addEventListener("change", () => {
  announce(before);
  if (presence.state === "ready") introduce(); // another model may be there now
  before = presence.state;
});
connectControls();
connectMicrophone();
presence.check();
