/** The five canvases over one time axis: waveform, spectrogram, curves, timeline, seconds. */

import { clock, hertz, percent } from "./format.js";
import { onTheme, theme } from "./theme.js";

/** @typedef {import("./types.js").View} View */
/** @typedef {import("./theme.js").Theme} Theme */
/** @typedef {{context: CanvasRenderingContext2D, width: number, height: number, colours: Theme,
 *   view: View, at: (seconds: number) => number}} Pen */

const NAMES = /** @type {const} */ (["waveform", "spectrogram", "curves", "timeline", "axis"]);
const FONT = "12px system-ui, sans-serif";
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
const DRAW = { waveform, spectrogram, curves, timeline, axis };

export class Plots {
  /** @param {HTMLElement} root holds a canvas with each of the names */
  constructor(root) {
    this.root = root;
    /** @type {?View} */
    this.view = null;
    this.waiting = false;
    /** @type {Record<string, HTMLCanvasElement>} */
    this.canvases = {};
    for (const name of NAMES) {
      this.canvases[name] = /** @type {HTMLCanvasElement} */ (root.querySelector(`#${name}`));
    }
    new ResizeObserver(() => this.draw()).observe(root);
    onTheme(() => this.draw());
  }

  /** @param {View} view drawn with the next frame of the screen */
  show(view) {
    this.view = view;
    this.draw();
  }

  /** Whether there are samples to draw, or classes alone. @param {boolean} shown */
  withSound(shown) {
    for (const name of ["waveform", "spectrogram"]) {
      const figure = this.canvases[name].closest("figure");
      if (figure) figure.hidden = !shown;
    }
  }

  /** Draws soon, however often it is called before that. */
  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.#draw();
    });
  }

  /** The words for those who do not see the plots. @param {View} view */
  describe(view) {
    const span = `${clock(view.from)} to ${clock(view.to)}`;
    const names = view.curves.map(({ label }) => label).join(", ");
    const parts = view.segments.slice(0, 5).map((s) => `${s.label} from ${clock(s.start)}`);
    const more = view.segments.length > 5 ? ` and ${view.segments.length - 5} more` : "";
    const texts = {
      waveform: `Waveform, ${span}${peak(view)}`,
      spectrogram: `Mel spectrogram, ${span}`,
      curves: `Class probabilities, ${span}: ${names || "none yet"}`,
      timeline: `Timeline, ${span}: ${parts.join(", ") || "no class for certain"}${more}`,
    };
    for (const [name, text] of Object.entries(texts)) {
      this.canvases[name].setAttribute("aria-label", text);
    }
  }

  #draw() {
    const { view } = this;
    if (!view) return;
    const colours = theme();
    for (const name of NAMES) {
      const canvas = this.canvases[name];
      const [width, height] = [canvas.clientWidth, canvas.clientHeight];
      const context = canvas.getContext("2d");
      if (!width || !context) continue;
      const dots = window.devicePixelRatio || 1;
      const size = [Math.round(width * dots), Math.round(height * dots)];
      if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
      context.setTransform(dots, 0, 0, dots, 0, 0);
      context.clearRect(0, 0, width, height);
      context.font = FONT;
      const scale = width / Math.max(view.to - view.from, 1e-3);
      DRAW[name]({
        context,
        width,
        height,
        colours,
        view,
        at: (seconds) => (seconds - view.from) * scale,
      });
    }
  }
}

/** @param {View} view @returns {string} */
function peak({ wave }) {
  if (!wave) return "";
  let [best, column] = [0, 0];
  wave.highs.forEach((high, i) => {
    const value = Math.max(high, -wave.lows[i]);
    if (value > best) [best, column] = [value, i];
  });
  const time = wave.from + ((wave.to - wave.from) * (column + 0.5)) / wave.highs.length;
  return `, loudest at ${clock(time)}`;
}

/** @param {Pen} pen */
function waveform({ context, width, height, colours, view, at }) {
  context.fillStyle = colours.line;
  context.fillRect(0, height / 2 - 0.5, width, 1);
  if (!view.wave) return;
  const { lows, highs, from, to } = view.wave;
  let most = 0.05; // a quiet recording is drawn larger, up to twenty times
  for (let i = 0; i < highs.length; i++) most = Math.max(most, highs[i], -lows[i]);
  const scale = (height / 2 - 2) / most;
  const [left, right] = [at(from), at(to)];
  const step = (right - left) / highs.length;
  context.fillStyle = colours.wave;
  for (let i = 0; i < highs.length; i++) {
    const [top, bottom] = [height / 2 - highs[i] * scale, height / 2 - lows[i] * scale];
    context.fillRect(left + i * step, top - 0.5, Math.max(step, 0.75), bottom - top + 1);
  }
}

/** @param {Pen} pen */
function spectrogram({ context, height, colours, view, at }) {
  if (!view.picture) return;
  const { canvas, from, to, top } = view.picture;
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  context.drawImage(canvas, at(from), 0, at(to) - at(from), height);
  note(context, colours, hertz(top), 6, 4);
  note(context, colours, "0 Hz", 6, height - 20);
}

/**
 * A short text on a ground of its own, for it may stand on anything.
 * @param {CanvasRenderingContext2D} context
 * @param {Theme} colours
 * @param {string} text
 * @param {number} x
 * @param {number} y
 */
function note(context, colours, text, x, y) {
  const wide = context.measureText(text).width;
  context.fillStyle = colours.card;
  context.globalAlpha = 0.8;
  context.fillRect(x - 3, y, wide + 6, 16);
  context.globalAlpha = 1;
  context.fillStyle = colours.ink;
  context.textAlign = "left";
  context.textBaseline = "middle";
  context.fillText(text, x, y + 8.5);
}

/** @param {Pen} pen */
function curves({ context, width, height, colours, view, at }) {
  const [top, room] = [8, height - 16];
  context.textBaseline = "bottom";
  context.textAlign = "left";
  for (const share of [0, 0.5, 1]) {
    const y = top + room * (1 - share);
    context.fillStyle = colours.line;
    context.fillRect(0, Math.round(y), width, 1);
  }
  context.lineJoin = "round";
  context.lineWidth = 2;
  for (const { index, slot } of [...view.curves].reverse()) {
    context.strokeStyle = colours.slots[slot];
    context.beginPath();
    let drawing = false;
    for (const { time, probabilities } of view.points) {
      if (probabilities) {
        const y = top + room * (1 - probabilities[index]);
        if (drawing) context.lineTo(at(time), y);
        else context.moveTo(at(time), y);
      }
      drawing = probabilities !== null;
    }
    context.stroke();
  }
  note(context, colours, percent(1).replace(".0", ""), 6, top + 2);
  note(context, colours, "0 %", 6, top + room - 18);
}

/** @param {Pen} pen */
function timeline({ context, height, colours, view, at }) {
  const slots = new Map(view.curves.map(({ label, slot }) => [label, slot]));
  context.textAlign = "left";
  context.textBaseline = "middle";
  for (const { start, end, label } of view.segments) {
    const left = at(start);
    const wide = Math.max(at(end) - left - 1, 1);
    context.fillStyle = colours.slots[slots.get(label) ?? -1] ?? colours.quiet;
    context.globalAlpha = 0.22;
    context.fillRect(left, 0, wide, height);
    context.globalAlpha = 1;
    context.fillRect(left, height - 5, wide, 5);
    const visible = Math.max(left, 0);
    if (context.measureText(label).width + 10 <= left + wide - visible) {
      context.fillStyle = colours.ink;
      context.fillText(label, visible + 5, height / 2 - 1.5);
    }
  }
}

/** @param {Pen} pen */
function axis({ context, width, height, colours, view, at }) {
  const length = view.to - view.from;
  const room = Math.max(2, Math.floor(width / 80));
  const step = STEPS.find((size) => length / size <= room) ?? 7200;
  context.fillStyle = colours.quiet;
  context.textBaseline = "bottom";
  for (let i = Math.ceil(view.from / step - 1e-6); i * step <= view.to + 1e-6; i++) {
    const x = at(i * step);
    const text = step < 1 ? clock(i * step) : clock(i * step).slice(0, -2);
    const half = context.measureText(text).width / 2;
    context.textAlign = x < half ? "left" : x > width - half ? "right" : "center";
    context.fillRect(Math.min(x, width - 1), 0, 1, 4);
    context.fillText(text, Math.min(Math.max(x, 0), width), height);
  }
}
