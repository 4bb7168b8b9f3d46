// How full the window and the memory are, with advice when one gets tight.

/** @import { Memory } from "./types" */
/** @import { TextKey } from "./words.js" */
import { shown } from "./conversation.js";
import { dialog } from "./dialogs.js";
import { el, filled } from "./elements.js";
import { runPatched } from "./runs.js";
import { settings, settingsChanged } from "./settings.js";
import { status, statusChanged } from "./status.js";
import { gigabytes, number, t } from "./words.js";

const TIGHT_WINDOW = 0.75;
const TIGHT_KV = 0.85;

export const windowGauge = gauge("window-gauge");
export const memoryGauge = gauge("memory-gauge");
export const advice = el("p", { class: "advice-line", role: "status", hidden: true });

let tokens = { used: 0, window: 0 };

/** @param {string} id */
function gauge(id) {
  return el(
    "button",
    { type: "button", class: "pill", id, hidden: true, onclick: showGauges },
    el("span", { class: "ring", "aria-hidden": "true" }),
    el("span", { class: "long", dir: "ltr" }),
  );
}

/**
 * @param {HTMLElement} made
 * @param {{ part: number, text: string, label: string }} shows `part` from 0 to 1
 */
function fillGauge(made, { part, text, label }) {
  const [ring, line] = /** @type {HTMLCollectionOf<HTMLElement>} */ (made.children);
  made.hidden = false;
  made.title = label;
  made.setAttribute("aria-label", label);
  ring?.style.setProperty("--part", String(Math.min(100, 100 * part)));
  if (ring) ring.dataset.tight = String(part > TIGHT_WINDOW);
  if (line) line.textContent = text;
}

/**
 * @param {number} used tokens
 * @param {number} window
 */
export function showWindow(used, window) {
  tokens = { used, window };
  fillGauge(windowGauge, {
    part: windowPart(),
    text: `${number(used)} / ${number(window)}`,
    label: t("window_used", { used: number(used), total: number(window) }),
  });
  showAdvice();
}

function showMemory() {
  const { memory } = status;
  memoryGauge.hidden = !memory;
  if (!memory) return;
  const used = memory.weights + memory.step + memory.kvRunning + memory.kvStored;
  const text = `${gigabytes(used)} / ${gigabytes(memory.limit)}`;
  fillGauge(memoryGauge, { part: used / memory.limit, text, label: `${t("memory")}: ${text}` });
  showAdvice();
}

function windowPart() {
  return tokens.window ? tokens.used / tokens.window : 0;
}

/** @returns {TextKey | null} */
function windowAdvice() {
  if (windowPart() <= TIGHT_WINDOW) return null;
  return settings.history === "keep" ? "advice_drop_reasoning" : "advice_new_conversation";
}

// Finished KV is dropped when memory is needed: only the KV of running answers makes it tight.
/** @returns {TextKey | null} */
function memoryAdvice() {
  const { memory } = status;
  return memory?.kvLimit && memory.kvRunning > TIGHT_KV * memory.kvLimit ? "advice_memory" : null;
}

function showAdvice() {
  const key = windowAdvice() ?? memoryAdvice();
  const text = key ? t(key) : "";
  if (advice.textContent !== text) advice.textContent = text;
  advice.hidden = !text;
}

function showGauges() {
  const { memory } = status;
  dialog("small", t("gauges"), ...windowDetails(), ...(memory ? memoryDetails(memory) : []));
}

function windowDetails() {
  return [
    el("h3", {}, t("window")),
    el("div", { class: "bar" }, filled(windowPart())),
    figures([[t("window_used_short"), number(tokens.used)], [t("window_total"), number(tokens.window)]]),
    ...adviceLine(windowAdvice()),
  ];
}

/** @param {Memory} memory */
function memoryDetails({ limit, weights, step, kvRunning, kvStored }) {
  const kv = kvRunning + kvStored;
  const free = Math.max(0, limit - weights - step - kv);
  return [
    el("h3", {}, t("memory")),
    el("div", { class: "stack" }, ...[weights, kv, step].map((bytes) => filled(bytes / limit))),
    figures([
      [t("memory_weights"), gigabytes(weights), "key"],
      [t("memory_kv"), gigabytes(kv), "key second"],
      [t("memory_step"), gigabytes(step), "key third"],
      [t("memory_headroom"), gigabytes(free)],
      [t("memory_limit"), gigabytes(limit)],
    ]),
    ...adviceLine(memoryAdvice()),
  ];
}

/** @param {TextKey | null} key */
function adviceLine(key) {
  return key ? [el("p", { class: "advice" }, t(key))] : [];
}

/** @param {[name: string, value: string, kind?: string][]} rows */
function figures(rows) {
  const parts = rows.flatMap(([name, value, kind]) => [el("dt", { class: kind }, name), el("dd", {}, value)]);
  return el("dl", { class: "figures" }, ...parts);
}

statusChanged.listen(showMemory);
settingsChanged.listen(showAdvice);
// While an answer is written, its prompt and its tokens so far count.
runPatched.listen(({ conversation, patch }) => {
  if (conversation !== shown.id || !tokens.window) return;
  const used = Math.max(0, ...patch.chains.map((chain) => chain.prefill_total + chain.tokens));
  if (used) showWindow(used, tokens.window);
});
