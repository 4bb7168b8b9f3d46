// Which model is open, which others can be, and which Macs Magistral Small fits on.

/** @import { Fit, ModelEntry } from "./types" */
import { conversionPart, drawConversion } from "./conversion.js";
import { confirmed, dialog } from "./dialogs.js";
import { el, textButton } from "./elements.js";
import { icon } from "./icons.js";
import { isRunning } from "./runs.js";
import { ask, attempt, problem } from "./server.js";
import { reachable, refreshStatus, status, statusChanged } from "./status.js";
import { gigabytes, number, t } from "./words.js";

const dot = el("span", { class: "state" });
const pillText = el("span", { class: "name" });
export const modelPill = el(
  "button",
  { type: "button", class: "pill", id: "model", onclick: showModels },
  dot,
  pillText,
  icon("down"),
);

const list = el("ul", { class: "models" });
const wrong = el("p", { class: "wrong", role: "alert" });
const fits = el("div", { class: "scroll-x", tabindex: "0" });

function showState() {
  const { model } = status;
  const name = modelLabel(model.choice, model.name);
  const texts = {
    opening: t("opening", { name, seconds: number(model.seconds) }),
    ready: name,
    failed: t("opening_failed"),
    idle: t("choose_model"),
  };
  dot.dataset.state = reachable ? model.state : "failed";
  pillText.textContent = texts[model.state];
  modelPill.title = model.message ?? texts[model.state];
}

/**
 * @param {string | null} choice
 * @param {string | null} name
 */
function modelLabel(choice, name) {
  return choice === "demo" ? t("demo_model") : (name ?? "");
}

function showModels() {
  wrong.textContent = status.model.message ?? "";
  dialog(
    "wide",
    t("models"),
    list,
    wrong,
    el("h3", {}, t("convert_title")),
    conversionPart(),
    el("h3", {}, t("what_fits")),
    fits,
  );
  drawModels();
  drawFits();
}

async function drawModels() {
  const found = await attempt("models", {});
  if (found) list.replaceChildren(...found.models.map(modelEntry));
}

/** @param {ModelEntry} entry */
function modelEntry(entry) {
  const { choice, state } = status.model;
  const isOpen = entry.choice === choice && state === "ready";
  const about = [];
  if (entry.choice === "demo") about.push(t("demo_about"));
  else if (entry.bits) about.push(t("bits", { bits: number(entry.bits) }));
  if (entry.nbytes) about.push(gigabytes(entry.nbytes));
  return el(
    "li",
    { "data-open": String(isOpen) },
    el(
      "div",
      {},
      el("div", { class: "name" }, modelLabel(entry.choice, entry.name)),
      el("div", { class: "about" }, about.join(" · ")),
    ),
    isOpen
      ? el("span", { class: "badge" }, t("is_open"))
      : textButton("plain-button", t("open"), () => open(entry.choice), { disabled: state === "opening" }),
  );
}

/** @param {string} name */
async function open(name) {
  wrong.textContent = "";
  const stop = isRunning();
  if (stop && !(await confirmed(t("open"), t("open_stops_answers"), t("open")))) return;
  try {
    await ask("open_model", { name, stop_runs: stop });
  } catch (error) {
    wrong.textContent = problem(error);
  }
  await refreshStatus();
  drawModels();
}

async function drawFits() {
  const table = await attempt("what_fits", {});
  if (!table) return;
  const head = [t("mac"), t("bits_column"), t("window"), t("memory_weights"), t("memory_kv"), t("memory_headroom")];
  fits.replaceChildren(
    el(
      "table",
      { class: "fits" },
      el("thead", {}, el("tr", {}, ...head.map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, ...table.fits.map(fitRow)),
    ),
  );
}

/** @param {Fit} fit */
function fitRow(fit) {
  const mac = el("th", { scope: "row" }, `${number(fit.memory / 2 ** 30)} GB`);
  const bits = el("td", {}, number(fit.bits));
  if (!fit.fits) return el("tr", {}, mac, bits, el("td", { class: "no", colspan: 4 }, t("fits_not")));
  const cells = [number(fit.window), gigabytes(fit.weights), gigabytes(fit.kv), gigabytes(fit.left)];
  return el("tr", {}, mac, bits, ...cells.map((text) => el("td", {}, text)));
}

statusChanged.listen(({ otherModel }) => {
  showState();
  if (!list.isConnected) return;
  const completed = drawConversion();
  if (otherModel || completed) drawModels();
});
