/** The results of this tab: a table, and its CSV. They outlive a reload, not the tab. */

import { clock, percent } from "./format.js";
import { make } from "./result.js";

/**
 * @typedef {object} Entry
 * @property {string} time ISO 8601
 * @property {string} source the file's name, or the microphone's
 * @property {number} seconds
 * @property {boolean} silent
 * @property {?string} label
 * @property {?number} probability
 * @property {string} model its version
 */

const KEY = "jaxsound.history";
const COLUMNS = /** @type {const} */ ([
  "time",
  "source",
  "seconds",
  "silent",
  "label",
  "probability",
  "model",
]);

/** @param {string} id @returns {any} */
const element = (id) => document.getElementById(id);

export class History {
  constructor() {
    /** @type {Entry[]} */
    this.entries = JSON.parse(sessionStorage.getItem(KEY) ?? "[]");
    element("download").addEventListener("click", () => this.#download());
    element("clear").addEventListener("click", () => {
      this.entries = [];
      this.#keep();
      element("history-heading").focus(); // the button that had the focus is disabled now
    });
    this.#show();
  }

  /** @param {Entry} entry */
  add(entry) {
    this.entries.unshift(entry);
    this.#keep();
  }

  /** RFC 4180, the newest result first. @returns {string} */
  csv() {
    const rows = this.entries.map((entry) => COLUMNS.map((name) => field(entry[name])));
    return [COLUMNS, ...rows].map((cells) => cells.join(",") + "\r\n").join("");
  }

  #keep() {
    sessionStorage.setItem(KEY, JSON.stringify(this.entries));
    this.#show();
  }

  #show() {
    const { entries } = this;
    element("history").hidden = !entries.length;
    element("history-empty").hidden = entries.length > 0;
    element("download").disabled = element("clear").disabled = !entries.length;
    const rows = entries.map(({ time, source, seconds, silent, label, probability }) => {
      const row = document.createElement("tr");
      row.append(
        make("td", new Date(time).toLocaleTimeString()),
        make("td", source),
        make("td", clock(seconds), "number"),
        make("td", silent ? "silence" : (label ?? "")),
        make("td", probability === null ? "" : percent(probability), "number"),
      );
      return row;
    });
    element("history").tBodies[0].replaceChildren(...rows);
  }

  #download() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([this.csv()], { type: "text/csv" }));
    link.download = "jaxsound.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }
}

/** @param {string | number | boolean | null} value @returns {string} */
function field(value) {
  const text = value === null ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
