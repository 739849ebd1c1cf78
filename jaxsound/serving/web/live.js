/** Listening: the microphone's sound drawn as it comes, and what the server makes of it. */

import { Refusal } from "./api.js";
import { chosen, extend } from "./curves.js";
import { clock, percent } from "./format.js";
import { Picture } from "./picture.js";
import * as result from "./result.js";
import { MelSpectrum } from "./spectrum.js";
import { Stream } from "./stream.js";
import { onTheme } from "./theme.js";

/** @typedef {import("./types.js").Model} Model */
/** @typedef {import("./types.js").View} View */
/** @typedef {import("./microphone.js").Microphone} Microphone */
/** @typedef {import("./plots.js").Plots} Plots */
/** @typedef {import("./presence.js").Presence} Presence */
/** @typedef {import("./stream.js").Heard} Heard */
/** @typedef {import("./history.js").Entry} Entry */

const SPAN = 30; // seconds shown
const COLUMNS = 600; // of the pictures: one every 50 ms
const BANDS = 64;
const TOP = 5; // classes shown as bars
const KEPT = 200; // segments listed
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** One session of listening. Dispatches "state" (a sentence) and "refused" (a `Refusal`). */
export class Live extends EventTarget {
  /**
   * @param {Microphone} microphone
   * @param {Model} model
   * @param {Plots} plots
   * @param {Presence} presence
   */
  constructor(microphone, model, plots, presence) {
    super();
    this.microphone = microphone;
    this.model = model;
    this.plots = plots;
    this.presence = presence;
    this.ending = new AbortController();
    this.samples = 0; // heard so far
    this.offset = 0; // seconds that had been heard when the present connection began
    this.last = 0; // time of the last prediction, or of the connection if that was later
    this.answered = false;
    this.sums = new Float64Array(model.classes.length);
    this.counted = 0; // predictions that were not silence
    this.width = Math.round((microphone.rate * SPAN) / COLUMNS);
    const top = Math.min(microphone.rate, model.sample_rate) / 2;
    this.spectrum = new MelSpectrum(microphone.rate, BANDS, top);
    this.recent = new Float32Array(this.spectrum.size + this.width);
    this.filled = 0; // samples since the last column
    this.picture = new Picture(COLUMNS, BANDS);
    /** @type {View} */
    this.view = {
      from: -SPAN,
      to: 0,
      wave: { lows: new Float32Array(COLUMNS), highs: new Float32Array(COLUMNS), from: 0, to: 0 },
      picture: { canvas: this.picture.canvas, from: 0, to: 0, top },
      points: [],
      curves: [],
      segments: [],
    };
    onTheme(() => this.picture.recolour(), this.ending.signal);
    this.began = new Date();
  }

  start() {
    result.open(this.microphone.name, "live, the last 30 seconds");
    result.say("Listening…");
    this.plots.withSound(true);
    this.microphone.heard = (samples) => this.#hear(samples);
    this.#connect();
    this.#draw();
  }

  /** Ends it. @returns {Promise<?Entry>} what was heard on the whole; null if nothing came back */
  async stop() {
    this.ending.abort();
    this.microphone.close();
    await this.stream?.end();
    if (!this.answered) return null;
    const top = this.sums.indexOf(Math.max(...this.sums));
    const silent = !this.counted;
    return {
      time: this.began.toISOString(),
      source: this.microphone.name,
      seconds: this.seconds,
      silent,
      label: silent ? null : this.model.classes[top],
      probability: silent ? null : this.sums[top] / this.counted,
      model: this.model.version,
    };
  }

  get seconds() {
    return this.samples / this.microphone.rate;
  }

  #connect() {
    const { signal } = this.ending;
    const stream = new Stream(this.microphone.rate);
    this.stream = stream;
    stream.addEventListener("open", () => {
      // Nothing is known of the time without a connection.
      this.view.points.push({ time: this.last, probabilities: null });
      this.offset = this.last = this.seconds;
    });
    stream.addEventListener("prediction", (event) => {
      this.#say("Listening.");
      this.#predicted(/** @type {CustomEvent} */ (event).detail);
    });
    stream.addEventListener("refused", (event) => {
      if (!signal.aborted) {
        const { detail } = /** @type {CustomEvent} */ (event);
        this.dispatchEvent(new CustomEvent("refused", { detail }));
      }
    });
    stream.addEventListener("lost", async () => {
      if (signal.aborted) return;
      this.#say("The connection is lost; listening goes on when the server is back.");
      await this.presence.ready();
      // A moment, lest a server that answers but takes no streams be asked without end.
      await new Promise((done) => setTimeout(done, 500));
      if (!signal.aborted) this.#connect();
    });
  }

  /** @param {string} detail */
  #say(detail) {
    this.dispatchEvent(new CustomEvent("state", { detail }));
  }

  /** @param {Int16Array<ArrayBuffer>} samples */
  #hear(samples) {
    this.stream?.send(samples);
    this.samples += samples.length;
    const { recent, width, spectrum, picture } = this;
    const wave = /** @type {NonNullable<View["wave"]>} */ (this.view.wave);
    for (const sample of samples) {
      recent[spectrum.size + this.filled++] = sample / 32768;
      if (this.filled < width) continue;
      this.filled = 0;
      const sums = new Float64Array(BANDS);
      spectrum.add(recent, width, sums);
      picture.push(Float32Array.from(sums, (sum) => spectrum.decibels(sum)));
      const column = recent.subarray(spectrum.size);
      wave.lows.copyWithin(0, 1);
      wave.highs.copyWithin(0, 1);
      wave.lows[COLUMNS - 1] = Math.min(...column);
      wave.highs[COLUMNS - 1] = Math.max(...column);
      recent.copyWithin(0, width);
    }
  }

  /** @param {Heard} heard */
  #predicted({ time, silent, classes }) {
    const { view, model } = this;
    if (classes.length !== model.classes.length) {
      const detail = new Refusal(0, "its model has changed; press Listen again.");
      this.dispatchEvent(new CustomEvent("refused", { detail }));
      return;
    }
    const dropped = (this.stream?.dropped ?? 0) / this.microphone.rate;
    const now = this.offset + time + dropped;
    this.answered = true;
    const probabilities = classes.map(({ probability }) => probability);
    view.points.push({ time: now, probabilities: silent ? null : probabilities });
    view.points = view.points.filter((point) => point.time > now - SPAN - 1);
    view.curves = chosen(view.points, model.classes, view.curves);
    const sorted = [...classes].sort((a, b) => b.probability - a.probability);
    extend(view.segments, this.last, now, silent ? null : sorted[0]);
    this.last = now;
    if (!silent) {
      this.counted++;
      probabilities.forEach((p, i) => (this.sums[i] += p));
    }
    result.bars(silent ? [] : sorted.slice(0, TOP));
    result.legend(view.curves);
    view.segments = view.segments.slice(-KEPT);
    result.segments([...view.segments].reverse(), null);
    const [first] = sorted;
    if (silent) result.say("Silence");
    // Read aloud when another class comes first, not with every change of its share.
    else result.say(`${first.label}, ${percent(first.probability)}`, first.label);
    result.about(`live, the last ${SPAN} seconds; ${clock(now)} heard`);
    this.plots.describe(view);
    if (calm.matches) this.#show();
  }

  #draw() {
    if (this.ending.signal.aborted) return;
    if (!calm.matches) this.#show();
    setTimeout(() => requestAnimationFrame(() => this.#draw()), 40);
  }

  #show() {
    const { view, seconds } = this;
    view.to = Math.max(seconds, SPAN);
    view.from = view.to - SPAN;
    const end = seconds - this.filled / this.microphone.rate;
    const span = (COLUMNS * this.width) / this.microphone.rate;
    for (const part of [view.wave, view.picture]) {
      if (part) [part.from, part.to] = [end - span, end];
    }
    this.picture.paint();
    this.plots.show(view);
  }
}
