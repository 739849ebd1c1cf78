/** A recording: sent to the server, and drawn as the browser decodes it, both at once. */

import * as api from "./api.js";
import { chosen, points } from "./curves.js";
import { decode, LONGEST } from "./decode.js";
import { bytes, clock, percent } from "./format.js";
import { Picture } from "./picture.js";
import * as result from "./result.js";
import { onTheme } from "./theme.js";

/** @typedef {import("./types.js").Answer} Answer */
/** @typedef {import("./types.js").Model} Model */
/** @typedef {import("./types.js").View} View */
/** @typedef {import("./plots.js").Plots} Plots */
/** @typedef {import("./player.js").Player} Player */
/** @typedef {import("./spectrum-worker.js").Found} Found */

const COLUMNS = 1200; // of the pictures, whatever the length
const BANDS = 64;

// Loaded with the page: it is wanted even when the server is gone.
const painter = new Worker(api.address("static/spectrum-worker.js"), { type: "module" });
let jobs = 0;

/** The recording that is shown; a new one replaces it. */
export class Recording {
  /**
   * @param {File} file
   * @param {Model} model
   * @param {Plots} plots
   * @param {Player} player
   */
  constructor(file, model, plots, player) {
    this.file = file;
    this.model = model;
    this.plots = plots;
    this.player = player;
    this.ending = new AbortController();
    /** @type {?Picture} */
    this.picture = null;
    /** @type {?Answer} */
    this.answer = null;
    /** @type {View} */
    this.view = {
      from: 0,
      to: model.window_seconds,
      wave: null,
      picture: null,
      points: [],
      curves: [],
      segments: [],
    };
    const { signal } = this.ending;
    player.addEventListener(
      "time",
      (event) => result.mark(this.view.segments, /** @type {CustomEvent} */ (event).detail),
      { signal },
    );
    onTheme(() => this.#repaint(), signal);
  }

  /** Stops what is under way; nothing of it reaches the page any more. */
  end() {
    this.ending.abort();
    this.player.unload();
  }

  get ended() {
    return this.ending.signal.aborted;
  }

  /** Opens an empty result and draws what the browser makes of the file. */
  async draw() {
    result.open(this.file.name, bytes(this.file.size));
    result.say("Sending it to the server…");
    this.plots.withSound(true);
    this.#show();
    const seconds = await this.player.load(this.file);
    if (this.ended) return;
    if (seconds !== null && seconds > LONGEST) {
      this.#length(seconds);
      this.#offer(seconds);
      result.remark(`Longer than ${LONGEST / 60} minutes: no waveform and spectrogram are drawn.`);
      this.plots.withSound(false);
      return;
    }
    const sound = await decode(this.file, this.model.sample_rate);
    if (this.ended) return;
    if (!sound) {
      const able = seconds === null ? "can neither draw nor play" : "cannot draw";
      result.remark(`This browser ${able} ${this.file.name}; the server decodes for itself.`);
      this.plots.withSound(false);
      if (seconds) this.#offer(seconds);
      return;
    }
    this.#length(sound.seconds);
    if (seconds !== null) this.#offer(sound.seconds);
    this.#paint(sound);
  }

  /**
   * Asks the server.
   * @returns {Promise<Answer>}
   * @throws {api.Refusal | api.Gone} and what a fetch that was ended throws
   */
  async ask() {
    const answer = await api.predict(this.file, this.ending.signal);
    this.answer = answer;
    this.#length(this.view.wave ? this.view.to : answer.seconds);
    this.view.points = points(answer.windows);
    this.view.curves = chosen(this.view.points, this.model.classes);
    this.view.segments = answer.timeline;
    result.bars(answer.classes);
    result.legend(this.view.curves);
    this.#list();
    const [first] = answer.classes;
    if (answer.silent || !first) result.say("Silence", `${this.file.name}: silence.`);
    else {
      const share = percent(first.probability);
      result.say(
        `${first.label}, ${share}`,
        `${this.file.name}: ${first.label}, ${share}. ${answer.timeline.length} segments.`,
      );
    }
    this.#show();
    return answer;
  }

  /** @param {{channels: Float32Array[], rate: number, seconds: number}} sound */
  #paint({ channels, rate, seconds }) {
    const picture = new Picture(COLUMNS, BANDS);
    this.picture = picture;
    this.view.picture = { canvas: picture.canvas, from: 0, to: seconds, top: rate / 2 };
    const number = ++jobs;
    const take = (/** @type {MessageEvent<Found>} */ { data }) => {
      const { lows, highs, first, levels } = data;
      if (data.number !== number) return;
      if (lows && highs) this.view.wave = { lows, highs, from: 0, to: seconds };
      if (levels) picture.set(first ?? 0, levels);
      this.#repaint();
      this.#show();
    };
    painter.addEventListener("message", take, { signal: this.ending.signal });
    const job = { number, channels, rate, columns: COLUMNS, bands: BANDS };
    painter.postMessage(
      job,
      channels.map((channel) => channel.buffer),
    );
  }

  /** @param {number} seconds */
  #length(seconds) {
    this.view.to = seconds;
    result.about(`${clock(seconds)}, ${bytes(this.file.size)}`);
    this.#show();
  }

  /** @param {number} seconds that can be played */
  #offer(seconds) {
    this.player.offer(seconds);
    this.#list();
  }

  #list() {
    const { player } = this;
    result.segments(this.view.segments, player.root.hidden ? null : (at) => player.play(at));
  }

  #repaint() {
    if (!this.picture || this.ended) return;
    this.picture.recolour();
    this.picture.paint();
    this.plots.draw();
  }

  #show() {
    this.plots.show(this.view);
    this.plots.describe(this.view);
  }
}
