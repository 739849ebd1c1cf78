/**
 * What the other modules hand to each other; nothing is run here.
 *
 * @typedef {{label: string, probability: number}} Scored
 *
 * @typedef {object} Model What the server says of its model.
 * @property {string} version
 * @property {string[]} classes
 * @property {number} sample_rate Hz
 * @property {number} window_seconds
 * @property {number} hop_seconds
 * @property {number} folds
 * @property {number} max_bytes
 * @property {boolean} token whether one is wanted
 *
 * @typedef {object} Segment A stretch in which one class came first; seconds.
 * @property {number} start
 * @property {number} end
 * @property {string} label
 * @property {number} probability
 *
 * @typedef {object} Window Probabilities in the order of the model's classes; seconds.
 * @property {number} start
 * @property {number} end
 * @property {boolean} silent
 * @property {number[]} probabilities
 *
 * @typedef {object} Answer The server's answer for a recording.
 * @property {string} model
 * @property {number} seconds
 * @property {boolean} silent
 * @property {?string} label
 * @property {Scored[]} classes
 * @property {Segment[]} timeline
 * @property {Window[]} windows
 *
 * @typedef {object} Point Probabilities at one time in seconds; null where nothing was heard.
 * @property {number} time
 * @property {?number[]} probabilities
 *
 * @typedef {{label: string, index: number, slot: number}} Curve A class drawn in colour `slot`.
 *
 * @typedef {object} View What the plots show, from `from` to `to` seconds.
 * @property {number} from
 * @property {number} to
 * @property {?{lows: Float32Array, highs: Float32Array, from: number, to: number}} wave
 * @property {?{canvas: HTMLCanvasElement, from: number, to: number, top: number}} picture
 *   `top`: the highest frequency in Hz
 * @property {Point[]} points
 * @property {Curve[]} curves
 * @property {Segment[]} segments
 */
export {};
