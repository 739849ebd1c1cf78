/** The server's live interface: samples out, predictions in. */

import { address, Refusal, token } from "./api.js";

/** @typedef {import("./types.js").Scored} Scored */
/** @typedef {{time: number, silent: boolean, classes: Scored[]}} Heard */

const BEHIND = 2; // seconds of sound waiting to be sent from which on more is left out
const PATIENCE = 3000; // milliseconds for the server's last word

/**
 * One connection. Dispatches "open", "prediction" (with a `Heard`), "refused" (with a `Refusal`)
 * and "lost", of which the last two end it.
 */
export class Stream extends EventTarget {
  /** @param {number} rate Hz */
  constructor(rate) {
    super();
    this.rate = rate;
    this.ended = false;
    this.dropped = 0; // samples that a slow connection cost
    this.socket = new WebSocket(address("v1/stream", "ws"));
    this.socket.binaryType = "arraybuffer";
    this.socket.addEventListener("open", () => {
      const start = { type: "start", format: "pcm16", sample_rate: rate, channels: 1 };
      this.socket.send(JSON.stringify({ ...start, ...(token() && { token: token() }) }));
      this.dispatchEvent(new Event("open"));
    });
    this.socket.addEventListener("message", ({ data }) => this.#read(JSON.parse(data)));
    this.socket.addEventListener("close", () => this.#end("lost"));
  }

  /** @param {Int16Array<ArrayBuffer>} samples */
  send(samples) {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    if (this.socket.bufferedAmount > 2 * this.rate * BEHIND) this.dropped += samples.length;
    else this.socket.send(samples);
  }

  /** Says that no more comes, and waits for the server's last word. @returns {Promise<void>} */
  async end() {
    this.ended = true;
    if (this.socket.readyState !== WebSocket.OPEN) return this.socket.close();
    const closed = new Promise((done) => this.socket.addEventListener("close", done));
    this.socket.send(JSON.stringify({ type: "end" }));
    await Promise.race([closed, new Promise((done) => setTimeout(done, PATIENCE))]);
    this.socket.close();
  }

  /** @param {any} message */
  #read(message) {
    if (message.type === "prediction") {
      this.dispatchEvent(new CustomEvent("prediction", { detail: message }));
    } else if (message.type === "error" && message.status === 503) {
      this.#end("lost"); // it is stopping, and may be back
    } else if (message.type === "error") {
      this.#end("refused", new Refusal(message.status, message.detail));
    }
  }

  /** @param {"lost" | "refused"} how @param {Refusal} [detail] */
  #end(how, detail) {
    if (this.ended) return;
    this.ended = true;
    this.socket.close();
    this.dispatchEvent(new CustomEvent(how, { detail }));
  }
}
