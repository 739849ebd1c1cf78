/** Colours for the canvases, from the style sheet: light or dark as the reader has it. */

export const SLOTS = 6; // classes that have a colour of their own
const NAMES = ["card", "ink", "quiet", "line", "wave"];
const dark = matchMedia("(prefers-color-scheme: dark)");

// From quiet to loud: ink on paper in the light, light from the dark otherwise.
const LIGHT = [0xffffff, 0xd5e3f5, 0x8fb3e0, 0x5a79c0, 0x5a4794, 0x4a1f5e, 0x220a30];
const DARK = [0x0d1118, 0x1c2547, 0x443a80, 0x86458f, 0xcb5f7e, 0xf49a63, 0xfdf0b0];

/** @typedef {{card: string, ink: string, quiet: string, line: string, wave: string,
 *   slots: string[]}} Theme */

/** @returns {Theme} */
export function theme() {
  const style = getComputedStyle(document.documentElement);
  /** @param {string} name */
  const read = (name) => style.getPropertyValue(`--${name}`).trim();
  const slots = Array.from({ length: SLOTS }, (_, slot) => read(`class-${slot}`));
  const named = Object.fromEntries(NAMES.map((name) => [name, read(name)]));
  return /** @type {Theme} */ ({ ...named, slots });
}

/**
 * Calls back when the reader changes between light and dark.
 * @param {() => void} then
 * @param {AbortSignal} [signal] ends it
 */
export function onTheme(then, signal) {
  dark.addEventListener("change", then, { signal });
}

/**
 * 256 colours of the spectrogram, from quiet to loud, as RGBA in the order of canvas bytes.
 * @returns {Uint8ClampedArray} `[256 * 4]`
 */
export function levels() {
  const stops = dark.matches ? DARK : LIGHT;
  const bytes = new Uint8ClampedArray(256 * 4);
  for (let level = 0; level < 256; level++) {
    const at = (level / 255) * (stops.length - 1);
    const before = Math.min(Math.floor(at), stops.length - 2);
    for (const [channel, shift] of [16, 8, 0].entries()) {
      const from = (stops[before] >> shift) & 255;
      const to = (stops[before + 1] >> shift) & 255;
      bytes[4 * level + channel] = from + (to - from) * (at - before);
    }
    bytes[4 * level + 3] = 255;
  }
  return bytes;
}
