/** An audio worklet that hands the microphone's samples on, as 16-bit PCM of one channel. */

const CHUNK = 2048; // samples of a message: about 43 ms at 48 kHz

class Capture extends AudioWorkletProcessor {
  samples = new Int16Array(CHUNK);
  filled = 0;

  /** @param {Float32Array[][]} inputs @returns {boolean} */
  process([channels]) {
    if (!channels.length) return true;
    for (let i = 0; i < channels[0].length; i++) {
      let sum = 0;
      for (const channel of channels) sum += channel[i];
      const value = Math.max(-1, Math.min(sum / channels.length, 1));
      this.samples[this.filled++] = Math.round(value * 32767);
      if (this.filled === CHUNK) {
        this.port.postMessage(this.samples, [this.samples.buffer]);
        this.samples = new Int16Array(CHUNK);
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("capture", Capture);
