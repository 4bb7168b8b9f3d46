// The list of conversations, and what can be done with each.

/** @import { Listed } from "./types" */
import {
  conversationShown,
  newConversation,
  runStarted,
  showConversation,
  showTitle,
  shown,
} from "./conversation.js";
import { asked, confirmed, menu } from "./dialogs.js";
import { asBase64, el, iconButton, narrow, pickFiles, root } from "./elements.js";
import { icon } from "./icons.js";
import { isRunning, runEnded } from "./runs.js";
import { attempt } from "./server.js";
import { t } from "./words.js";

const SIDEBAR_KEPT = "magistral-sidebar";
const THEME_KEPT = "magistral-theme";

const list = el("ul", { class: "conversations", tabindex: "-1" });
/** @type {Listed[]} */
let listed = [];
let searched = "";

export function sidebar() {
  const search = el("input", {
    type: "search",
    id: "search",
    placeholder: t("search"),
    "aria-label": t("search"),
    autocomplete: "off",
    dir: "auto",
    oninput: (event) => searchFor(event.target.value),
  });
  list.setAttribute("aria-label", t("conversations"));
  return el(
    "nav",
    { class: "sidebar", "aria-label": t("conversations") },
    el(
      "header",
      {},
      el("div", { class: "brand" }, "Magistral"),
      iconButton("menu", t("hide_sidebar"), () => setSidebar(false)),
    ),
    el(
      "button",
      { type: "button", class: "plain-button new-conversation", onclick: newConversation },
      icon("plus"),
      t("new_conversation"),
    ),
    el("div", { class: "search" }, icon("search"), search),
    list,
    el(
      "footer",
      {},
      el("button", { type: "button", class: "quiet-button", onclick: importConversation }, icon("load"), t("import")),
      el("span", { class: "space" }),
      iconButton("moon", t("theme"), switchTheme, { id: "theme" }),
    ),
  );
}

/** Shows the sidebar and the theme as the user left them. */
export function restoreSidebar() {
  const theme = localStorage.getItem(THEME_KEPT);
  if (theme) root.dataset.theme = theme;
  showSidebar(!narrow() && localStorage.getItem(SIDEBAR_KEPT) !== "closed");
}

/** @param {boolean} open */
export function setSidebar(open) {
  showSidebar(open);
  if (!narrow()) localStorage.setItem(SIDEBAR_KEPT, open ? "open" : "closed");
}

/** @param {boolean} open */
function showSidebar(open) {
  root.dataset.sidebar = open ? "open" : "closed";
  const button = /** @type {HTMLElement | null} */ (root.querySelector("#show-sidebar"));
  if (button) button.hidden = open && !narrow();
}

function switchTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = root.dataset.theme ?? (dark ? "dark" : "light");
  const next = now === "dark" ? "light" : "dark";
  root.dataset.theme = next;
  localStorage.setItem(THEME_KEPT, next);
}

export async function refreshList() {
  await searchFor(searched);
}

/** @param {string} text */
async function searchFor(text) {
  searched = text;
  const found = await attempt("search", { text });
  if (found && text === searched) {
    listed = found.conversations;
    drawList();
  }
}

function drawList() {
  const parts = [];
  let heading = "";
  for (const record of listed) {
    const group = groupOf(record);
    if (group !== heading) parts.push(el("li", { class: "group" }, group));
    heading = group;
    parts.push(listEntry(record));
  }
  const nothing = searched ? t("nothing_found") : t("no_conversations");
  if (!listed.length) parts.push(el("li", { class: "nothing" }, nothing));
  list.replaceChildren(...parts);
}

/** @param {Listed} record */
function groupOf(record) {
  if (record.pinned) return t("pinned");
  const days = (Date.now() - record.updated * 1000) / 86_400_000;
  if (days < 1) return t("today");
  return days < 7 ? t("this_week") : t("earlier");
}

/** @param {Listed} record */
function listEntry(record) {
  const isShown = record.id === shown.id;
  return el(
    "li",
    { class: "conversation", "data-shown": String(isShown) },
    el(
      "button",
      {
        type: "button",
        class: "open-conversation",
        dir: "auto",
        title: record.title,
        "aria-current": isShown ? "page" : undefined,
        onclick: () => showConversation(record.id),
      },
      record.title || t("untitled"),
    ),
    isRunning(record.id) ? el("span", { class: "running", title: t("thinking") }) : null,
    iconButton("more", t("more"), (event) => conversationMenu(event.currentTarget, record), {
      class: "quiet-button more",
      "aria-haspopup": "menu",
      "aria-expanded": "false",
    }),
  );
}

/**
 * @param {HTMLElement} button
 * @param {Listed} record
 */
function conversationMenu(button, record) {
  menu(button, [
    { name: "pencil", label: t("rename"), act: () => rename(record) },
    { name: "pin", label: record.pinned ? t("unpin") : t("pin"), act: () => pin(record) },
    { name: "save", label: t("export_markdown"), act: () => exportAs("markdown", record) },
    { name: "save", label: t("export_json"), act: () => exportAs("json", record) },
    { name: "bin", label: t("delete"), danger: true, act: () => remove(record) },
  ]);
}

/** @param {Listed} record */
async function rename(record) {
  const title = await asked(t("rename"), record.title, t("save"));
  if (!title || !(await attempt("rename", { conversation: record.id, title }))) return;
  if (record.id === shown.id) showTitle(title);
  await refreshList();
}

/** @param {Listed} record */
async function pin(record) {
  await attempt("pin", { conversation: record.id, pinned: !record.pinned });
  await refreshList();
}

/** @param {Listed} record */
async function remove(record) {
  const sure = await confirmed(t("delete_question"), record.title || t("untitled"), t("delete"));
  if (!sure || !(await attempt("delete_conversation", { conversation: record.id }))) return;
  if (record.id === shown.id) newConversation();
  await refreshList();
}

/**
 * @param {"markdown" | "json"} form
 * @param {Listed} record
 */
async function exportAs(form, record) {
  const file = await attempt("export", { conversation: record.id, form });
  if (!file) return;
  const type = form === "json" ? "application/json" : "text/markdown";
  const url = URL.createObjectURL(new Blob([file.text], { type }));
  el("a", { href: url, download: file.name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

function importConversation() {
  pickFiles({ accept: ".json,application/json" }, async ([file]) => {
    const record = file && (await attempt("import_file", { data: await asBase64(file) }));
    await refreshList();
    if (record) await showConversation(record.id);
  });
}

conversationShown.listen((place) => {
  drawList();
  if (place !== "stay" && narrow()) setSidebar(false);
});
runStarted.listen(refreshList);
runEnded.listen(refreshList);
