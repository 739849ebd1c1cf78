/**
 * Outlines and mel spectra of a whole recording, beside the page, in slices as they are done.
 * A new job ends the one before.
 */

import { MelSpectrum } from "./spectrum.js";

const SLICE = 64; // columns between two messages
const FRAMES = 6; // of a column, at most: a long recording is sampled, not read whole

/**
 * @typedef {{number: number, channels: Float32Array[], rate: number, columns: number,
 *   bands: number}} Job
 *
 * @typedef {object} Found
 * @property {number} number the job's
 * @property {Float32Array} [lows] least sample of each column
 * @property {Float32Array} [highs] and the greatest
 * @property {number} [first] column of the first spectrum in `levels`
 * @property {Float32Array} [levels] `[columns of the slice, bands]`, dB
 */

/** @param {Float32Array[]} channels @returns {Float32Array} */
function mixed(channels) {
  const [samples, ...others] = channels;
  for (const other of others) {
    for (let i = 0; i < samples.length; i++) samples[i] += other[i];
  }
  if (others.length) for (let i = 0; i < samples.length; i++) samples[i] /= channels.length;
  return samples;
}

/** @param {Float32Array} samples @param {number} columns */
function outline(samples, columns) {
  const lows = new Float32Array(columns);
  const highs = new Float32Array(columns);
  for (let column = 0; column < columns; column++) {
    const start = Math.floor((column * samples.length) / columns);
    const end = Math.max(Math.floor(((column + 1) * samples.length) / columns), start + 1);
    let [low, high] = [Infinity, -Infinity];
    for (let i = start; i < end; i++) {
      const value = samples[i];
      if (value < low) low = value;
      if (value > high) high = value;
    }
    lows[column] = low;
    highs[column] = high;
  }
  return { lows, highs };
}

let latest = 0;

/** @param {Job} job */
async function work({ number, channels, rate, columns, bands }) {
  latest = number;
  const samples = mixed(channels);
  postMessage({ number, ...outline(samples, columns) });
  const spectrum = new MelSpectrum(rate, bands);
  const width = samples.length / columns;
  const frames = Math.max(1, Math.min(FRAMES, Math.round((2 * width) / spectrum.size)));
  for (let first = 0; first < columns; first += SLICE) {
    const count = Math.min(SLICE, columns - first);
    const levels = new Float32Array(count * bands);
    for (let column = 0; column < count; column++) {
      const sums = new Float64Array(bands);
      for (let frame = 0; frame < frames; frame++) {
        const middle = (first + column + (frame + 0.5) / frames) * width;
        spectrum.add(samples, Math.round(middle - spectrum.size / 2), sums);
      }
      sums.forEach((sum, band) => {
        levels[column * bands + band] = spectrum.decibels(sum / frames);
      });
    }
    postMessage({ number, first, levels });
    await new Promise((done) => setTimeout(done)); // a new job may have come
    if (latest !== number) return;
  }
}

addEventListener("message", (event) => work(event.data));
