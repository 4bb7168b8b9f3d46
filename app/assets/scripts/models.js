// Which model is open, others that can be, and converting one.
const modelDot = el("span", { class: "state" });
const modelName = el("span", { class: "name" });
const modelPill = el("button", { type: "button", class: "pill", id: "model", onclick: showModels }, modelDot, modelName, icon("down"));
let modelState = { state: "idle", name: null };
let conversion = { state: "idle" };
let statusTimer = 0;
let modelsDialog = null;

// Asked often while something is going on, seldom otherwise.
async function refreshStatus() {
  clearTimeout(statusTimer);
  try {
    const status = await ask("status");
    const became = status.model.state !== modelState.state || status.model.name !== modelState.name;
    modelState = status.model;
    memory = status.memory;
    showMemory();
    conversion = status.conversion;
    showModelState();
    if (became) setRunning();
    if (became && modelState.state === "ready") countDraft();
    if (modelsDialog?.isConnected) drawConversion();
    if (modelsDialog?.isConnected && became) drawModels();
  } catch {
    modelDot.dataset.state = "failed";
  }
  const busy = modelState.state === "opening" || conversion.state === "running";
  statusTimer = setTimeout(refreshStatus, busy ? 500 : 10_000);
}

function showModelState() {
  modelDot.dataset.state = modelState.state;
  const name = modelLabel(modelState.choice, modelState.name);
  const texts = {
    opening: t("opening", { name, seconds: number(modelState.seconds) }),
    ready: name,
    failed: t("opening_failed"),
    idle: t("choose_model"),
  };
  modelName.textContent = texts[modelState.state];
  modelPill.title = modelState.message ?? texts[modelState.state];
}

function modelLabel(choice, name) {
  return choice === "demo" ? t("demo_model") : (name ?? "");
}

const modelsList = el("ul", { class: "models" });
const modelsWrong = el("p", { class: "wrong", role: "alert" });
const conversionPlace = el("div", {});
const fitsPlace = el("div", { class: "scroll-x", tabindex: "0" });

function showModels() {
  modelsWrong.textContent = modelState.message ?? "";
  modelsDialog = dialog(
    "wide",
    t("models"),
    modelsList,
    modelsWrong,
    el("h3", {}, t("convert_title")),
    conversionPlace,
    el("h3", {}, t("what_fits")),
    fitsPlace,
  );
  drawModels();
  drawConversion(true);
  drawFits();
}

async function drawModels() {
  const found = await attempt("models");
  if (!found) return;
  modelsList.replaceChildren(...found.models.map(modelEntry));
}

function modelEntry(entry) {
  const open = entry.choice === modelState.choice && modelState.state === "ready";
  const about = [];
  if (entry.choice === "demo") about.push(t("demo_about"));
  else if (entry.bits) about.push(t("bits", { bits: number(entry.bits) }));
  if (entry.nbytes) about.push(gigabytes(entry.nbytes));
  return el(
    "li",
    { "data-open": String(open) },
    el(
      "div",
      {},
      el("div", { class: "name" }, modelLabel(entry.choice, entry.name)),
      el("div", { class: "about" }, about.join(" · ")),
    ),
    open
      ? el("span", { class: "badge" }, t("is_open"))
      : textButton("plain-button", t("open"), () => openModel(entry.choice), { disabled: modelState.state === "opening" }),
  );
}

async function openModel(name) {
  modelsWrong.textContent = "";
  const stop = running.size > 0;
  if (stop && !(await confirmed(t("open"), t("open_stops_answers"), t("open")))) return;
  try {
    modelState = await ask("open_model", { name, stop_runs: stop });
  } catch (error) {
    modelsWrong.textContent = error.message;
  }
  showModelState();
  setRunning();
  drawModels();
  refreshStatus();
}

function drawConversion(anew = false) {
  const runs = conversion.state === "running";
  if (!anew && conversionPlace.dataset.state === conversion.state && !runs) return;
  conversionPlace.dataset.state = conversion.state;
  conversionPlace.replaceChildren(runs ? conversionProgress() : conversionForm());
  if (conversion.state === "done" && !anew) drawModels();
}

function conversionForm() {
  const source = el("input", { class: "control", placeholder: t("convert_source"), "aria-label": t("convert_source"), dir: "auto" });
  if (conversion.state === "failed") source.value = conversion.source ?? "";
  const bits = el("select", { class: "control", "aria-label": t("convert_bits") }, ...[4, 8].map((n) => el("option", { value: n }, t("bits", { bits: number(n) }))));
  const results = {
    done: t("convert_done", { name: conversion.folder ?? "" }),
    cancelled: t("convert_cancelled"),
    failed: conversion.message ?? "",
  };
  const start = async (event) => {
    event.preventDefault();
    modelsWrong.textContent = "";
    try {
      conversion = await ask("convert", { source: source.value.trim(), bits: Number(bits.value) });
    } catch (error) {
      modelsWrong.textContent = error.message;
    }
    refreshStatus();
  };
  return el(
    "div",
    {},
    el(
      "form",
      { class: "convert-row", onsubmit: start },
      source,
      bits,
      el("button", { class: "plain-button", type: "submit" }, t("convert")),
    ),
    el("p", { class: conversion.state === "failed" ? "wrong" : "about" }, results[conversion.state] ?? t("convert_help")),
  );
}

function conversionProgress() {
  const { source, done, total, tensor, bytesPerSecond, secondsLeft } = conversion;
  const fill = el("i");
  fill.style.width = `${total ? (100 * done) / total : 0}%`;
  const parts = [t("of_bytes", { done: gigabytes(done), total: gigabytes(total) })];
  if (bytesPerSecond) parts.push(t("bytes_per_second", { rate: gigabytes(bytesPerSecond) }));
  if (secondsLeft !== null) parts.push(t("time_left", { time: seconds(secondsLeft) }));
  return el(
    "div",
    { class: "progress" },
    el("div", { class: "name" }, source),
    el("div", { class: "bar", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": total ? Math.round((100 * done) / total) : 0, "aria-label": t("converting") }, fill),
    el("p", { class: "about" }, parts.join(" · "), tensor ? ` · ${tensor}` : ""),
    textButton("plain-button", t("cancel"), () => attempt("cancel_conversion")),
  );
}

async function drawFits() {
  const table = await attempt("what_fits");
  if (!table) return;
  const head = [t("mac"), t("bits_column"), t("window"), t("memory_weights"), t("memory_kv"), t("memory_headroom")];
  fitsPlace.replaceChildren(
    el(
      "table",
      { class: "fits" },
      el("thead", {}, el("tr", {}, ...head.map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, ...table.fits.map(fitRow)),
    ),
  );
}

function fitRow(fit) {
  const mac = el("th", { scope: "row" }, `${number(fit.memory / 2 ** 30)} GB`);
  const bits = el("td", {}, number(fit.bits));
  if (!fit.fits) return el("tr", {}, mac, bits, el("td", { class: "no", colspan: 4 }, t("fits_not")));
  return el(
    "tr",
    {},
    mac,
    bits,
    el("td", {}, number(fit.window)),
    el("td", {}, gigabytes(fit.weights)),
    el("td", {}, gigabytes(fit.kv)),
    el("td", {}, gigabytes(fit.left)),
  );
}
