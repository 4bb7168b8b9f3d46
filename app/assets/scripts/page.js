// Putting it together.
const titleLine = el("h1", {});

function showTitle(title) {
  titleLine.replaceChildren(el("bdi", {}, title));
  document.title = title ? `${title} · Magistral` : "Magistral";
}

function topBar() {
  return el(
    "header",
    { class: "top" },
    iconButton("menu", t("show_sidebar"), () => setSidebar(true), { id: "show-sidebar" }),
    titleLine,
    el("span", { class: "space" }),
    windowGauge,
    memoryGauge,
    modelPill,
    iconButton("dials", t("settings"), showSettings),
  );
}

async function showConversation(id, { toQuestion = false } = {}) {
  const next = await attempt("show", { conversation: id });
  if (!next) {
    newConversation();
    return;
  }
  if (location.hash !== `#${id}`) history.pushState(null, "", `#${id}`);
  drawConversation(next);
  if (next.running) follow(id);
  if (narrow()) setSidebar(false);
  setRunning();
  drawList();
  scrollToLast(toQuestion);
  countDraft();
}

function scrollToLast(toQuestion) {
  const last = turns.lastElementChild;
  if (!last) return;
  if (toQuestion) turns.style.minHeight = `${last.offsetTop + scroller.clientHeight}px`;
  scroller.scrollTop = toQuestion ? last.offsetTop - 12 : scroller.scrollHeight;
}

function newConversation() {
  if (location.hash) history.pushState(null, "", location.pathname + location.search);
  turns.style.minHeight = "";
  drawConversation({ id: null, title: "", exchanges: [], running: null });
  setRunning();
  drawList();
  if (narrow()) setSidebar(false);
  else draft.focus();
  countDraft();
}

async function begin() {
  const begun = await ask("begin", { languages: navigator.languages.join(",") });
  speak(begun);
  ({ settings, defaults, languages } = begun);
  root.replaceChildren(
    sidebar(),
    el("div", { class: "veil", onclick: () => setSidebar(false) }),
    el("main", { class: "main" }, topBar(), scroller, composer()),
    notices,
    unseen,
  );
  setTheme(localStorage.getItem("magistral-theme"));
  setSidebar(!narrow() && localStorage.getItem("magistral-sidebar") !== "closed", false);
  drawGreeting(begun.examples);
  await Promise.all([refreshStatus(), refreshList()]);
  await showAddress();
  addEventListener("popstate", showAddress);
  root.dataset.ready = "true";
}

// Each conversation has an address of its own: reloading and the browser's "back" lead to it.
async function showAddress() {
  const id = location.hash.slice(1);
  if (id) await showConversation(id);
  else newConversation();
}

// What another tab has changed meanwhile.
document.addEventListener("visibilitychange", async () => {
  if (document.hidden || root.dataset.ready !== "true") return;
  refreshList();
  refreshStatus();
  if (!view.id || answering()) return;
  const next = await attempt("show", { conversation: view.id });
  if (next && next.id === view.id) drawConversation(next);
  if (next?.running) follow(next.id);
});

begin().catch((error) => {
  root.textContent = error.message;
});
