/** The result in words: the answer, the bars, the legend and the list of segments. */

import { clock, percent } from "./format.js";

/** @typedef {import("./types.js").Curve} Curve */
/** @typedef {import("./types.js").Scored} Scored */
/** @typedef {import("./types.js").Segment} Segment */

/** @param {string} id @returns {any} */
const element = (id) => document.getElementById(id);

/**
 * An element with text and a class.
 * @param {string} tag
 * @param {string} [text]
 * @param {string} [kind]
 * @returns {HTMLElement}
 */
export function make(tag, text = "", kind = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

/** A result of its own, empty so far. @param {string} title @param {string} facts */
export function open(title, facts) {
  element("result").hidden = false;
  element("title").textContent = title;
  about(facts);
  remark("");
  say("", "");
  bars([]);
  legend([]);
  element("segments-part").hidden = true;
}

/** Facts beside the title: length and size. @param {string} facts */
export function about(facts) {
  element("about").textContent = facts;
}

/** Takes the result away. */
export function close() {
  element("result").hidden = true;
}

/** What the browser could not do with a sound; "" for nothing. @param {string} text */
export function remark(text) {
  element("remark").textContent = text;
  element("remark").hidden = !text;
}

/** @param {string} text shown @param {string} [spoken] for screen readers, once it changes */
export function say(text, spoken = text) {
  element("answer").textContent = text;
  if (element("spoken").textContent !== spoken) element("spoken").textContent = spoken;
}

/** @param {Scored[]} classes */
export function bars(classes) {
  const rows = classes.map(({ label, probability }) => {
    const row = document.createElement("li");
    const track = make("span", "", "track");
    const fill = make("span", "", "fill");
    fill.style.setProperty("--share", String(probability));
    track.append(fill);
    row.append(make("span", label), track, make("span", percent(probability), "number"));
    return row;
  });
  element("bars").replaceChildren(...rows);
}

/** @param {Curve[]} curves */
export function legend(curves) {
  const items = curves.map(({ label, slot }) => {
    const item = make("li", label);
    item.style.setProperty("--colour", `var(--class-${slot})`);
    return item;
  });
  element("legend").replaceChildren(...items);
}

/**
 * The list of segments: one stop for the Tab key, arrows within; each a button where it can be
 * played.
 * @param {Segment[]} found
 * @param {?((seconds: number) => void)} seek
 */
export function segments(found, seek) {
  element("segments-part").hidden = !found.length;
  element("segments-help").textContent = seek
    ? "Choose a line to hear it; the arrow keys move between lines."
    : "";
  const items = found.map((segment, i) => {
    const line = make(seek ? "button" : "div", "", "segment");
    if (seek) {
      line.setAttribute("type", "button");
      line.tabIndex = i ? -1 : 0;
      line.addEventListener("click", () => seek(segment.start));
    }
    const span = `${clock(segment.start)} to ${clock(segment.end)}`;
    const share = percent(segment.probability);
    line.append(make("span", span), make("span", segment.label), make("span", share, "number"));
    const item = document.createElement("li");
    item.append(line);
    return item;
  });
  element("segments").replaceChildren(...items);
}

/** Marks the segment that is playing. @param {Segment[]} found @param {number} seconds */
export function mark(found, seconds) {
  const lines = [...element("segments").children];
  for (const [i, { start, end }] of found.entries()) {
    lines[i]?.firstChild.classList.toggle("now", start <= seconds && seconds < end);
  }
}

element("segments").addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
  const lines = /** @type {HTMLElement[]} */ ([...element("segments").querySelectorAll("button")]);
  const at = lines.indexOf(/** @type {HTMLElement} */ (document.activeElement));
  const last = lines.length - 1;
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: last }[event.key];
  if (at < 0 || to === undefined) return;
  event.preventDefault();
  const next = lines[Math.max(0, Math.min(to, last))];
  for (const line of lines) line.tabIndex = line === next ? 0 : -1;
  next.focus();
});
