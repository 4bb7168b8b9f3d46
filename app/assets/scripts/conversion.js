// Converting a model: the form, and the progress while it runs.

/** @import { Conversion } from "./types" */
import { el, filled, textButton } from "./elements.js";
import { ask, attempt, problem } from "./server.js";
import { refreshStatus, status } from "./status.js";
import { gigabytes, number, seconds, t } from "./words.js";

const BITS = [4, 8];

const place = el("div");
/** @type {Conversion["state"] | null} */
let drawn = null;

/** The form or the progress; `drawConversion` keeps it up to date. */
export function conversionPart() {
  drawn = null;
  drawConversion();
  return place;
}

/** Draws what has changed. True if a conversion has been completed meanwhile. */
export function drawConversion() {
  const { conversion } = status;
  const running = conversion.state === "running";
  if (drawn === conversion.state && !running) return false;
  const completed = drawn === "running" && conversion.state === "done";
  drawn = conversion.state;
  place.replaceChildren(running ? progress(conversion) : form(conversion));
  return completed;
}

/** @param {Conversion} conversion */
function form(conversion) {
  const failed = conversion.state === "failed";
  const source = el("input", {
    class: "control",
    placeholder: t("convert_source"),
    "aria-label": t("convert_source"),
    dir: "auto",
    value: failed ? conversion.source : null,
  });
  const bits = el(
    "select",
    { class: "control", "aria-label": t("convert_bits") },
    ...BITS.map((count) => el("option", { value: count }, t("bits", { bits: number(count) }))),
  );
  const result = el("p", { class: failed ? "wrong" : "about" }, resultText(conversion));
  const start = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    try {
      await ask("convert", { source: source.value.trim(), bits: Number(bits.value) });
      drawn = null;
    } catch (error) {
      result.className = "wrong";
      result.textContent = problem(error);
    }
    refreshStatus();
  };
  const convert = el("button", { class: "plain-button", type: "submit" }, t("convert"));
  return el("div", {}, el("form", { class: "convert-row", onsubmit: start }, source, bits, convert), result);
}

/** @param {Conversion} conversion */
function resultText({ state, folder, message }) {
  if (state === "done") return t("convert_done", { name: folder ?? "" });
  if (state === "cancelled") return t("convert_cancelled");
  return state === "failed" ? (message ?? "") : t("convert_help");
}

/** @param {Conversion} conversion */
function progress({ source, done, total, tensor, bytesPerSecond, secondsLeft }) {
  const part = total ? done / total : 0;
  const about = [t("of_bytes", { done: gigabytes(done), total: gigabytes(total) })];
  if (bytesPerSecond) about.push(t("bytes_per_second", { rate: gigabytes(bytesPerSecond) }));
  if (secondsLeft !== null) about.push(t("time_left", { time: seconds(secondsLeft) }));
  if (tensor) about.push(tensor);
  const bar = {
    class: "bar",
    role: "progressbar",
    "aria-valuemin": 0,
    "aria-valuemax": 100,
    "aria-valuenow": Math.round(100 * part),
    "aria-label": t("converting"),
  };
  return el(
    "div",
    { class: "progress" },
    el("div", { class: "name" }, source),
    el("div", bar, filled(part)),
    el("p", { class: "about" }, about.join(" · ")),
    textButton("plain-button", t("cancel"), () => attempt("cancel_conversion", {})),
  );
}
