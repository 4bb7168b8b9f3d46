// The list of conversations.
const list = el("ul", { class: "conversations", tabindex: "-1" });
const running = new Set();
let listed = [];
let searched = "";

function sidebar() {
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
      { type: "button", class: "plain-button new-conversation", onclick: () => newConversation() },
      icon("plus"),
      t("new_conversation"),
    ),
    el("div", { class: "search" }, icon("search"), search),
    list,
    el(
      "footer",
      {},
      el("button", { type: "button", class: "quiet-button", onclick: pickImport }, icon("load"), t("import")),
      el("span", { class: "space" }),
      iconButton("moon", t("theme"), switchTheme, { id: "theme" }),
    ),
  );
}

async function searchFor(text) {
  searched = text;
  const found = await attempt("search", { text });
  if (found && text === searched) {
    listed = found.conversations;
    drawList();
  }
}

async function refreshList() {
  await searchFor(searched);
}

function drawList() {
  const parts = [];
  let heading = null;
  for (const record of listed) {
    const group = groupOf(record);
    if (group !== heading) parts.push(el("li", { class: "group" }, group));
    heading = group;
    parts.push(listEntry(record));
  }
  if (!listed.length) {
    const text = searched ? t("nothing_found") : t("no_conversations");
    parts.push(el("li", { class: "nothing" }, text));
  }
  list.replaceChildren(...parts);
}

function groupOf(record) {
  if (record.pinned) return t("pinned");
  const days = (Date.now() - record.updated * 1000) / 86_400_000;
  if (days < 1) return t("today");
  return days < 7 ? t("this_week") : t("earlier");
}

function listEntry(record) {
  const shown = record.id === shownConversation();
  return el(
    "li",
    { class: "conversation", "data-shown": String(shown) },
    el(
      "button",
      {
        type: "button",
        class: "open-conversation",
        dir: "auto",
        title: record.title,
        "aria-current": shown ? "page" : undefined,
        onclick: () => showConversation(record.id),
      },
      record.title || t("untitled"),
    ),
    running.has(record.id) ? el("span", { class: "running", title: t("thinking") }) : null,
    iconButton("more", t("more"), (event) => conversationMenu(event.currentTarget, record), {
      class: "quiet-button more",
      "aria-haspopup": "menu",
      "aria-expanded": "false",
    }),
  );
}

function conversationMenu(button, record) {
  menu(button, [
    { name: "pencil", label: t("rename"), act: () => renameConversation(record) },
    {
      name: "pin",
      label: record.pinned ? t("unpin") : t("pin"),
      act: () => change("pin", { conversation: record.id, pinned: !record.pinned }),
    },
    { name: "save", label: t("export_markdown"), act: () => exportConversation(record, "markdown") },
    { name: "save", label: t("export_json"), act: () => exportConversation(record, "json") },
    { name: "bin", label: t("delete"), danger: true, act: () => deleteConversation(record) },
  ]);
}

async function change(call, form) {
  await attempt(call, form);
  await refreshList();
}

async function renameConversation(record) {
  const title = await asked(t("rename"), record.title, t("save"));
  if (!title) return;
  await change("rename", { conversation: record.id, title });
  if (record.id === shownConversation()) showTitle(title);
}

async function deleteConversation(record) {
  const sure = await confirmed(t("delete_question"), record.title || t("untitled"), t("delete"));
  if (!sure) return;
  await change("delete_conversation", { conversation: record.id });
  if (record.id === shownConversation()) newConversation();
}

async function exportConversation(record, form) {
  const file = await attempt("export", { conversation: record.id, form });
  if (file) save(file.name, file.text, form === "json" ? "application/json" : "text/markdown");
}

function pickImport() {
  const input = el("input", { type: "file", accept: ".json,application/json" });
  input.onchange = async () => {
    if (!input.files.length) return;
    const record = await attempt("import_file", { data: await asBase64(input.files[0]) });
    await refreshList();
    if (record) showConversation(record.id);
  };
  input.click();
}

function setSidebar(open, kept = true) {
  root.dataset.sidebar = open ? "open" : "closed";
  root.querySelector("#show-sidebar").hidden = open && !narrow();
  if (kept && !narrow()) localStorage.setItem("magistral-sidebar", open ? "open" : "closed");
}

function switchTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = root.dataset.theme || (dark ? "dark" : "light");
  setTheme(now === "dark" ? "light" : "dark");
}

function setTheme(theme) {
  if (theme) root.dataset.theme = theme;
  if (theme) localStorage.setItem("magistral-theme", theme);
}
