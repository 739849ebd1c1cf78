/** The server's HTTP interface. Addresses are relative, so that the page works below any prefix. */

/** @typedef {import("./types.js").Model} Model */
/** @typedef {import("./types.js").Answer} Answer */

const KEY = "jaxsound.token";

/** The server answered, and not with what was asked for; the message is its sentence. */
export class Refusal extends Error {
  /** @param {number} status @param {string} detail */
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** No answer came at all, or the server is starting or stopping. */
export class Gone extends Error {
  constructor() {
    super("The server does not answer.");
  }
}

/** The token that was given in this tab, or "". @returns {string} */
export function token() {
  return sessionStorage.getItem(KEY) ?? "";
}

/** Keeps a token until the tab is closed. @param {string} text */
export function keepToken(text) {
  sessionStorage.setItem(KEY, text.trim());
}

/** An address of this server. @param {string} path @param {string} [scheme] @returns {URL} */
export function address(path, scheme = "http") {
  const url = new URL(path, document.baseURI);
  if (scheme === "ws") url.protocol = url.protocol.replace("http", "ws");
  return url;
}

/** @returns {Promise<Model>} */
export async function model() {
  return (await ask("v1/model")).json();
}

/**
 * Classifies a recording.
 * @param {File} file
 * @param {AbortSignal} signal
 * @returns {Promise<Answer>}
 */
export async function predict(file, signal) {
  const body = new FormData();
  body.append("file", file);
  return (await ask("v1/predict?windows=true", { method: "POST", body, signal })).json();
}

/**
 * @param {string} path
 * @param {RequestInit} [options]
 * @returns {Promise<Response>}
 */
async function ask(path, options = {}) {
  const headers = token() ? { Authorization: `Bearer ${token()}` } : undefined;
  let response;
  try {
    response = await fetch(address(path), { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Gone();
  }
  if (response.status === 503) throw new Gone();
  if (!response.ok) throw new Refusal(response.status, await sentence(response));
  return response;
}

/** @param {Response} response @returns {Promise<string>} */
async function sentence(response) {
  try {
    const { detail } = await response.json();
    if (typeof detail === "string") return detail;
  } catch {
    // Not the server itself, a proxy before it, say: its status is all there is.
  }
  return `The answer was ${response.status} ${response.statusText}`.trim() + ".";
}
