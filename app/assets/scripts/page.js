// The whole page: puts its parts together and begins.

/** @import { ServerFunctions } from "./types" */
import { composer } from "./composer.js";
import { answering, conversationShown, reloadShown, showAddress, shown } from "./conversation.js";
import { el, iconButton, root } from "./elements.js";
import { memoryGauge, windowGauge } from "./gauges.js";
import { modelPill } from "./models.js";
import { notices, spoken } from "./notices.js";
import { ask, connect } from "./server.js";
import { beginSettings, showSettings } from "./settings.js";
import { refreshList, restoreSidebar, setSidebar, sidebar } from "./sidebar.js";
import { refreshStatus } from "./status.js";
import { scrollTo, scroller } from "./turns.js";
import { speak, t } from "./words.js";

const titleLine = el("h1");

/**
 * Draws the page. Raises what `ask` raises if the server does not let it begin.
 * @param {ServerFunctions} server
 */
export async function begin(server) {
  connect(server);
  const begun = await ask("begin", { languages: navigator.languages.join(",") });
  speak(begun);
  beginSettings(begun);
  root.replaceChildren(
    sidebar(),
    el("div", { class: "veil", onclick: () => setSidebar(false) }),
    el("main", { class: "main" }, topBar(), scroller, composer(begun.examples)),
    notices,
    spoken,
  );
  restoreSidebar();
  await Promise.all([refreshStatus(), refreshList()]);
  await showAddress();
  addEventListener("popstate", showAddress);
  document.addEventListener("visibilitychange", catchUp);
  root.dataset.ready = "true";
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

// Shows what another tab has changed meanwhile.
function catchUp() {
  if (document.hidden) return;
  refreshList();
  refreshStatus();
  if (!answering()) reloadShown();
}

// This module listens last: all other parts have their new size when it scrolls.
conversationShown.listen((place) => {
  const { title } = shown;
  titleLine.replaceChildren(el("bdi", {}, title));
  document.title = title ? `${title} · Magistral` : "Magistral";
  scrollTo(place);
});
