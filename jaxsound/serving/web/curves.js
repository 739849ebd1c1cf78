/** Which classes are drawn, in which colour, and segments from live predictions. */

import { SLOTS } from "./theme.js";

/** @typedef {import("./types.js").Curve} Curve */
/** @typedef {import("./types.js").Point} Point */
/** @typedef {import("./types.js").Segment} Segment */
/** @typedef {import("./types.js").Window} Window */

const VISIBLE = 0.01; // probability that a class reaches once, to have a curve
const SURE = 0.5; // probability from which on a class makes a live segment, as on the server

/**
 * The server's windows as points: each at its middle, the first and last reaching to the ends.
 * @param {Window[]} windows
 * @returns {Point[]}
 */
export function points(windows) {
  const found = windows.map(({ start, end, silent, probabilities }) => ({
    time: (start + end) / 2,
    probabilities: silent ? null : probabilities,
  }));
  if (!windows.length) return [];
  const [first, last] = [found[0], found[found.length - 1]];
  return [
    { ...first, time: windows[0].start },
    ...found,
    { ...last, time: windows[windows.length - 1].end },
  ];
}

/**
 * The classes worth a curve: those that come first most often, then those most probable at best.
 * A class keeps the colour that it had in `before`.
 * @param {Point[]} points
 * @param {string[]} labels
 * @param {Curve[]} [before]
 * @returns {Curve[]} in the order of the classes' importance
 */
export function chosen(points, labels, before = []) {
  const firsts = new Float64Array(labels.length);
  const best = new Float64Array(labels.length);
  for (const { probabilities } of points) {
    if (!probabilities) continue;
    let top = 0;
    probabilities.forEach((p, index) => {
      if (p > probabilities[top]) top = index;
      if (p > best[index]) best[index] = p;
    });
    firsts[top]++;
  }
  const order = labels.map((_, index) => index).filter((index) => best[index] >= VISIBLE);
  order.sort((a, b) => firsts[b] - firsts[a] || best[b] - best[a]);
  const indices = order.slice(0, SLOTS);
  const kept = new Map(before.map(({ index, slot }) => [index, slot]));
  const taken = new Set(indices.map((index) => kept.get(index)));
  const free = Array.from({ length: SLOTS }, (_, slot) => slot).filter((s) => !taken.has(s));
  return indices.map((index) => {
    const slot = kept.get(index) ?? /** @type {number} */ (free.shift());
    return { label: labels[index], index, slot };
  });
}

/**
 * Adds a live prediction to the segments: it speaks for the time since the one before.
 * @param {Segment[]} segments changed in place
 * @param {number} start
 * @param {number} end
 * @param {?{label: string, probability: number}} first null in silence
 */
export function extend(segments, start, end, first) {
  if (!first || first.probability < SURE) return;
  const last = segments[segments.length - 1];
  if (last?.label === first.label && start - last.end < 1e-3) {
    const share = (end - start) / (end - last.start);
    last.probability += (first.probability - last.probability) * share;
    last.end = end;
  } else {
    segments.push({ start, end, ...first });
  }
}
