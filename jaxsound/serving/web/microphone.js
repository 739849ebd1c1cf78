/** The microphone: which there are, and their samples; what the browser refuses, in a sentence. */

import { address, Gone } from "./api.js";

// Speech clean-up removes the very sounds that are to be classified.
const PLAIN = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };

/** Why there is no microphone; the message is for people. */
export class NoMicrophone extends Error {}

/** A sentence if this page cannot have a microphone whatever the reader does. @returns {string} */
export function impossible() {
  if (!window.isSecureContext) {
    return (
      "The browser gives the microphone only to pages over https or from this very computer " +
      "(localhost), and this page is neither."
    );
  }
  if (!navigator.mediaDevices?.getUserMedia || !window.AudioWorkletNode) {
    return "This browser offers pages no microphone.";
  }
  return "";
}

/**
 * The microphones; without names until the reader has allowed one.
 * @returns {Promise<MediaDeviceInfo[]>}
 */
export async function devices() {
  if (impossible()) return [];
  const found = await navigator.mediaDevices.enumerateDevices();
  return found.filter(({ kind }) => kind === "audioinput");
}

/** A microphone that is open. Dispatches "ended" when it is taken away. */
export class Microphone extends EventTarget {
  /** @param {MediaStream} stream @param {AudioContext} context */
  constructor(stream, context) {
    super();
    this.stream = stream;
    this.context = context;
    /** @type {(samples: Int16Array<ArrayBuffer>) => void} called with some 40 ms of sound at a time */
    this.heard = () => {};
    for (const track of stream.getTracks()) {
      track.addEventListener("ended", () => this.dispatchEvent(new Event("ended")));
    }
  }

  /** @returns {number} Hz */
  get rate() {
    return this.context.sampleRate;
  }

  /** @returns {string} */
  get name() {
    return this.stream.getAudioTracks()[0].label || "Microphone";
  }

  /**
   * Opens a microphone.
   * @param {string} device its id, or "" for the usual one
   * @returns {Promise<Microphone>}
   * @throws {NoMicrophone}
   * @throws {Gone} the worklet's file did not come
   */
  static async open(device) {
    const why = impossible();
    if (why) throw new NoMicrophone(why);
    const audio = { ...PLAIN, ...(device && { deviceId: { exact: device } }) };
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio });
    } catch (error) {
      throw new NoMicrophone(refusal(/** @type {DOMException} */ (error)));
    }
    const context = new AudioContext();
    const microphone = new Microphone(stream, context);
    try {
      await context.audioWorklet.addModule(address("static/capture.js"));
    } catch {
      microphone.close();
      throw new Gone();
    }
    const node = new AudioWorkletNode(context, "capture", { outputChannelCount: [1] });
    node.port.onmessage = ({ data }) => microphone.heard(data);
    // The node's silent output keeps browsers from leaving it out.
    context.createMediaStreamSource(stream).connect(node).connect(context.destination);
    await context.resume();
    return microphone;
  }

  close() {
    this.heard = () => {};
    for (const track of this.stream.getTracks()) track.stop();
    this.context.close();
  }
}

/** @param {DOMException} error @returns {string} */
function refusal({ name, message }) {
  switch (name) {
    case "NotAllowedError":
      return (
        "The browser refused the microphone. Allow it for this page (beside the address), " +
        "then press Listen again."
      );
    case "NotFoundError":
    case "OverconstrainedError":
      return "No such microphone is connected to this computer.";
    case "NotReadableError":
    case "AbortError":
      return "The microphone does not open; another program may be holding it.";
    default:
      return `The browser refused the microphone: ${message}`;
  }
}
