/** Mel spectra of a waveform: a real FFT's power through triangular filters, in decibels. */

const FLOOR = 1e-10; // power that counts as silence: -100 dB

/** @param {number} hertz @returns {number} */
function mel(hertz) {
  return 2595 * Math.log10(1 + hertz / 700);
}

/** @param {number} value @returns {number} */
function hertz(value) {
  return 700 * (10 ** (value / 2595) - 1);
}

/**
 * In-place radix-2 FFT.
 * @param {Float64Array} real `[n]`, n a power of two
 * @param {Float64Array} imaginary `[n]`
 */
export function fft(real, imaginary) {
  const n = real.length;
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [real[i], real[j]] = [real[j], real[i]];
      [imaginary[i], imaginary[j]] = [imaginary[j], imaginary[i]];
    }
  }
  for (let half = 1; half < n; half *= 2) {
    for (let k = 0; k < half; k++) {
      const angle = (-Math.PI * k) / half;
      const c = Math.cos(angle);
      const s = Math.sin(angle);
      for (let a = k; a < n; a += 2 * half) {
        const b = a + half;
        const re = real[b] * c - imaginary[b] * s;
        const im = real[b] * s + imaginary[b] * c;
        real[b] = real[a] - re;
        imaginary[b] = imaginary[a] - im;
        real[a] += re;
        imaginary[a] += im;
      }
    }
  }
}

/** Mel spectra at one sample rate. Bands are those of O'Shaughnessy's scale, with peaks of one. */
export class MelSpectrum {
  /**
   * @param {number} rate Hz
   * @param {number} bands mel bands from 0 Hz to `top`
   * @param {number} [top] Hz
   * @param {number} [size] samples of a frame, a power of two; about 50 ms by default
   */
  constructor(rate, bands, top = rate / 2, size = 2 ** Math.round(Math.log2(rate * 0.05))) {
    this.bands = bands;
    this.size = size;
    this.window = Float64Array.from({ length: size }, (_, i) => Math.sin((Math.PI * i) / size) ** 2);
    const edges = Array.from({ length: bands + 2 }, (_, i) =>
      hertz((mel(top) * i) / (bands + 1)),
    );
    /** @type {{first: number, weights: number[]}[]} */
    this.filters = edges.slice(1, -1).map((middle, band) => {
      const [low, high] = [edges[band], edges[band + 2]];
      const first = Math.ceil((low * size) / rate);
      const last = Math.min(Math.floor((high * size) / rate), size / 2);
      const weights = [];
      for (let bin = first; bin <= last; bin++) {
        const at = (bin * rate) / size;
        weights.push(Math.min((at - low) / (middle - low), (high - at) / (high - middle)));
      }
      // A band narrower than a bin takes the nearest one, so that no row of a picture is empty.
      if (!weights.some((weight) => weight > 0)) {
        return { first: Math.round((middle * size) / rate), weights: [1] };
      }
      return { first, weights };
    });
    this.real = new Float64Array(size);
    this.imaginary = new Float64Array(size);
  }

  /**
   * Adds a frame's mel powers to `sums`.
   * @param {Float32Array} samples full scale 1.0
   * @param {number} start of the frame; samples outside count as zero
   * @param {Float64Array} sums `[bands]`
   */
  add(samples, start, sums) {
    const { real, imaginary, window, size } = this;
    for (let i = 0; i < size; i++) real[i] = (samples[start + i] ?? 0) * window[i];
    imaginary.fill(0);
    fft(real, imaginary);
    for (let bin = 0; bin <= size / 2; bin++) real[bin] = real[bin] ** 2 + imaginary[bin] ** 2;
    this.filters.forEach(({ first, weights }, band) => {
      for (let i = 0; i < weights.length; i++) sums[band] += weights[i] * real[first + i];
    });
  }

  /** @param {number} power @returns {number} dB, at most about zero for a sine of full scale */
  decibels(power) {
    return 10 * Math.log10(Math.max(power / (this.size / 4) ** 2, FLOOR));
  }
}
