/** Numbers as people read them. */

/** 1:02:03.5, or 2:03.5 within the first hour. @param {number} seconds @returns {string} */
export function clock(seconds) {
  const tenths = Math.round(Math.max(0, seconds) * 10);
  const hours = Math.floor(tenths / 36000);
  const minutes = Math.floor(tenths / 600) % 60;
  const rest = ((tenths % 600) / 10).toFixed(1).padStart(4, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

/** 93.4 %, which does not break over lines. @param {number} share from 0 to 1 @returns {string} */
export function percent(share) {
  return `${(100 * share).toFixed(1)}\u00a0%`;
}

/** 50 MB. @param {number} count @returns {string} */
export function bytes(count) {
  if (count < 1e6) return `${Math.ceil(count / 1e3)} kB`;
  return `${(count / 1e6).toFixed(count < 1e7 ? 1 : 0)} MB`;
}

/** 16 kHz, 440 Hz. @param {number} rate @returns {string} */
export function hertz(rate) {
  return rate < 1000 ? `${Math.round(rate)} Hz` : `${Number((rate / 1000).toFixed(2))} kHz`;
}
