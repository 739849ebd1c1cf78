/** Spectrogram pictures: decibels in, a small canvas out, loudest against `RANGE` below it. */

import { levels } from "./theme.js";

const RANGE = 70; // dB from the loudest value to the palest colour
const LEAST = -60; // dB that the loudest counts as, at least: a quiet room is not a storm

/** Columns of mel levels, each painted once or over again when the loudest has changed. */
export class Picture {
  /** @param {number} columns @param {number} bands */
  constructor(columns, bands) {
    this.columns = columns;
    this.bands = bands;
    this.values = new Float32Array(columns * bands).fill(-Infinity);
    this.loudest = LEAST;
    this.canvas = document.createElement("canvas");
    this.canvas.width = columns;
    this.canvas.height = bands;
    const context = this.canvas.getContext("2d");
    if (!context) throw new Error("this browser has no canvas");
    this.context = context;
    this.colours = levels();
    this.image = context.createImageData(columns, bands);
  }

  /** Sets columns from `first` on. @param {number} first @param {Float32Array} found dB */
  set(first, found) {
    this.values.set(found, first * this.bands);
    for (const value of found) if (value > this.loudest) this.loudest = value;
  }

  /** Moves all columns to the left by one and sets the last. @param {Float32Array} found dB */
  push(found) {
    this.values.copyWithin(0, this.bands);
    this.loudest = Math.max(this.loudest - 0.05, LEAST); // forgets a bang in some seconds
    this.set(this.columns - 1, found);
  }

  /** Takes the colours of the present theme. */
  recolour() {
    this.colours = levels();
  }

  /** Paints all columns. */
  paint() {
    const { columns, bands, values, colours } = this;
    const pixels = this.image.data;
    const scale = 255 / RANGE;
    const least = this.loudest - RANGE;
    for (let column = 0; column < columns; column++) {
      for (let band = 0; band < bands; band++) {
        const value = values[column * bands + band];
        const level = Math.max(0, Math.min(255, Math.round((value - least) * scale)));
        const pixel = 4 * ((bands - 1 - band) * columns + column);
        const known = value !== -Infinity;
        pixels[pixel] = colours[4 * level];
        pixels[pixel + 1] = colours[4 * level + 1];
        pixels[pixel + 2] = colours[4 * level + 2];
        pixels[pixel + 3] = known ? 255 : 0;
      }
    }
    this.context.putImageData(this.image, 0, 0);
  }
}
