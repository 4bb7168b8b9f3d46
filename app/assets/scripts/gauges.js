// How full the window and the memory are, with a word of advice when it gets tight.
const windowRing = el("span", { class: "ring", "aria-hidden": "true" });
const windowText = el("span", { class: "long", dir: "ltr" });
const windowGauge = el("button", { type: "button", class: "pill", id: "window-gauge", hidden: true, onclick: showGauges }, windowRing, windowText);
const memoryRing = el("span", { class: "ring", "aria-hidden": "true" });
const memoryText = el("span", { class: "long", dir: "ltr" });
const memoryGauge = el("button", { type: "button", class: "pill", id: "memory-gauge", hidden: true, onclick: showGauges }, memoryRing, memoryText);
const advice = el("p", { class: "advice-line", role: "status", hidden: true });
const TIGHT = 75; // per cent
let usedTokens = 0;
let windowSize = 0;
let memory = null;

function showWindow(tokens, room, drafted) {
  windowGauge.hidden = false;
  usedTokens = tokens;
  windowSize = room;
  const part = room ? Math.min(100, (100 * tokens) / room) : 0;
  fillRing(windowRing, part);
  windowText.textContent = `${number(tokens)} / ${number(room)}`;
  windowGauge.setAttribute("aria-label", t("window_used", { used: number(tokens), total: number(room) }));
  windowGauge.title = windowGauge.getAttribute("aria-label");
  estimate.textContent = drafted ? t("tokens", { count: number(tokens) }) : "";
  estimate.dataset.over = String(tokens >= room);
  showAdvice();
}

function showMemory() {
  memoryGauge.hidden = !memory;
  if (!memory) return;
  const used = usedMemory();
  fillRing(memoryRing, (100 * used) / memory.limit);
  memoryText.textContent = `${gigabytes(used)} / ${gigabytes(memory.limit)}`;
  const label = `${t("memory")}: ${memoryText.textContent}`;
  memoryGauge.setAttribute("aria-label", label);
  memoryGauge.title = label;
  showAdvice();
}

function usedMemory() {
  return memory.weights + memory.step + memory.kvRunning + memory.kvStored;
}

function fillRing(ring, part) {
  ring.style.setProperty("--part", Math.min(100, part));
  ring.dataset.tight = String(part > TIGHT);
}

// Finished KV gives way by itself: only what running answers hold makes memory tight.
function memoryIsTight() {
  return Boolean(memory?.kvLimit) && memory.kvRunning > 0.85 * memory.kvLimit;
}

function windowIsTight() {
  return windowSize > 0 && (100 * usedTokens) / windowSize > TIGHT;
}

function windowAdvice() {
  return settings.history === "keep" ? t("advice_drop_reasoning") : t("advice_new_conversation");
}

function showAdvice() {
  const text = windowIsTight() ? windowAdvice() : memoryIsTight() ? t("advice_memory") : "";
  if (advice.textContent !== text) advice.textContent = text;
  advice.hidden = !text;
}

// While an answer is written: its prompt, and what has been written.
function showUsed(patch) {
  if (!windowSize || !patch.chains.length) return;
  const most = Math.max(...patch.chains.map((chain) => chain.prefill_total + chain.tokens));
  if (most) showWindow(most, windowSize, false);
}

function showGauges() {
  dialog("small", t("gauges"), ...windowPart(), ...memoryPart());
}

function windowPart() {
  const part = windowSize ? (100 * usedTokens) / windowSize : 0;
  const fill = el("i");
  fill.style.width = `${Math.min(100, part)}%`;
  const made = [
    el("h3", {}, t("window")),
    el("div", { class: "bar" }, fill),
    figures([[t("window_used_short"), number(usedTokens)], [t("window_total"), number(windowSize)]]),
  ];
  if (windowIsTight()) made.push(el("p", { class: "advice" }, windowAdvice()));
  return made;
}

function memoryPart() {
  if (!memory) return [];
  const kv = memory.kvRunning + memory.kvStored;
  const free = Math.max(0, memory.limit - memory.weights - memory.step - kv);
  const bars = [memory.weights, kv, memory.step].map((bytes) => {
    const bar = el("i");
    bar.style.width = `${(100 * bytes) / memory.limit}%`;
    return bar;
  });
  const made = [
    el("h3", {}, t("memory")),
    el("div", { class: "stack" }, ...bars),
    figures([
      [t("memory_weights"), gigabytes(memory.weights), "key"],
      [t("memory_kv"), gigabytes(kv), "key second"],
      [t("memory_step"), gigabytes(memory.step), "key third"],
      [t("memory_headroom"), gigabytes(free)],
      [t("memory_limit"), gigabytes(memory.limit)],
    ]),
  ];
  if (memoryIsTight()) made.push(el("p", { class: "advice" }, t("advice_memory")));
  return made;
}

function figures(rows) {
  const parts = rows.flatMap(([name, value, kind]) => [
    el("dt", { class: kind }, name),
    el("dd", {}, value),
  ]);
  return el("dl", { class: "figures" }, ...parts);
}
