/** Whether the server is there: asked gently while it is, with growing pauses while it is not. */

import { address } from "./api.js";

const CALM = 5; // seconds between questions while all is well
const FIRST = 1; // and after a failure, doubled each time
const LONGEST = 10;
const PATIENCE = 5000; // milliseconds for an answer

/** @typedef {"unknown" | "ready" | "unready" | "gone"} State */

/** Dispatches "change" when `state` changes. */
export class Presence extends EventTarget {
  /** @type {State} */
  state = "unknown";
  #pause = FIRST;
  #timer = 0;
  /** @type {?Promise<void>} */
  #asking = null;

  constructor() {
    super();
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.check();
    });
  }

  /** Asks now, and again after a pause. @returns {Promise<void>} */
  check() {
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = null;
    });
    return this.#asking;
  }

  /** Resolves once the server takes requests. @returns {Promise<void>} */
  async ready() {
    await this.check();
    while (this.state !== "ready") {
      await new Promise((done) => this.addEventListener("change", done, { once: true }));
    }
  }

  async #ask() {
    clearTimeout(this.#timer);
    const before = this.state;
    try {
      const signal = AbortSignal.timeout(PATIENCE);
      const response = await fetch(address("readyz"), { cache: "no-store", signal });
      this.state = response.ok ? "ready" : "unready";
    } catch {
      this.state = "gone";
    }
    if (this.state === "ready") this.#pause = FIRST;
    const pause = this.state === "ready" ? CALM : this.#pause;
    if (this.state !== "ready") this.#pause = Math.min(2 * this.#pause, LONGEST);
    this.#timer = setTimeout(() => {
      // A hidden page asks nothing while all is well.
      if (!document.hidden || this.state !== "ready") this.check();
    }, 1000 * pause);
    if (this.state !== before) this.dispatchEvent(new Event("change"));
  }
}
