/** Playback of the shown recording: a button, a slider, and a cursor in every plot. */

import { clock } from "./format.js";

/** @param {string} id @returns {any} */
const element = (id) => document.getElementById(id);

/** Dispatches "time" as playback moves. */
export class Player extends EventTarget {
  /** @param {HTMLElement} plots has the property `--at`, the cursor's place from 0 to 1 */
  constructor(plots) {
    super();
    this.plots = plots;
    this.audio = new Audio();
    this.seconds = 0;
    /** @type {HTMLElement} */
    this.root = element("player");
    /** @type {HTMLButtonElement} */
    this.button = element("play");
    /** @type {HTMLInputElement} */
    this.slider = element("position");
    this.button.addEventListener("click", () => this.toggle());
    this.slider.addEventListener("input", () => this.seek(Number(this.slider.value)));
    plots.addEventListener("click", (event) => {
      const plot = /** @type {HTMLElement} */ (event.target).closest(".plot");
      if (this.root.hidden || !plot) return;
      const { left, width } = plot.getBoundingClientRect();
      this.seek(((event.clientX - left) / width) * this.seconds);
    });
    for (const name of ["play", "pause", "ended"]) {
      this.audio.addEventListener(name, () => {
        this.button.textContent = this.audio.paused ? "Play" : "Pause";
        this.#follow();
      });
    }
    this.audio.addEventListener("seeked", () => this.#move());
  }

  /**
   * Takes a recording.
   * @param {Blob} file
   * @returns {Promise<?number>} its seconds, 0 where the browser cannot tell, null where it cannot
   *   play it
   */
  load(file) {
    this.unload();
    const { audio } = this;
    audio.src = URL.createObjectURL(file);
    return new Promise((resolve) => {
      audio.onloadedmetadata = () => resolve(Number.isFinite(audio.duration) ? audio.duration : 0);
      audio.onerror = () => resolve(null);
    });
  }

  /** Offers playback of `seconds`, the length that the plots show. @param {number} seconds */
  offer(seconds) {
    this.seconds = seconds;
    this.slider.max = String(seconds);
    this.root.hidden = false;
    this.plots.classList.add("seekable");
    this.#move();
  }

  /** Stops, and forgets the recording. */
  unload() {
    this.audio.pause();
    this.audio.onloadedmetadata = this.audio.onerror = null;
    if (this.audio.src) URL.revokeObjectURL(this.audio.src);
    this.audio.removeAttribute("src");
    this.root.hidden = true;
    this.plots.classList.remove("seekable");
  }

  toggle() {
    if (this.audio.paused) this.play(this.audio.currentTime);
    else this.audio.pause();
  }

  /** @param {number} seconds where to begin */
  play(seconds) {
    this.seek(seconds);
    // A new recording that is taken meanwhile ends the attempt, which is no failure.
    this.audio.play().catch(() => {});
  }

  /** @param {number} seconds */
  seek(seconds) {
    this.audio.currentTime = Math.max(0, Math.min(seconds, this.seconds));
    this.#move();
  }

  #follow() {
    this.#move();
    if (!this.audio.paused) requestAnimationFrame(() => this.#follow());
  }

  #move() {
    const now = Math.min(this.audio.currentTime, this.seconds);
    this.plots.style.setProperty("--at", String(this.seconds ? now / this.seconds : 0));
    this.slider.value = String(now);
    this.slider.setAttribute("aria-valuetext", clock(now));
    element("clock").textContent = `${clock(now)} / ${clock(this.seconds)}`;
    this.dispatchEvent(new CustomEvent("time", { detail: now }));
  }
}
