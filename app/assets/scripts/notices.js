// Short messages that go by themselves, questions to the user, and menus.
const notices = el("div", { class: "notices", role: "status", "aria-live": "polite" });
const unseen = el("div", { class: "unseen", role: "status", "aria-live": "polite" });

function notice(text) {
  const shown = el("div", { class: "notice", dir: "auto" }, text);
  notices.append(shown);
  setTimeout(() => shown.remove(), 6000);
}

// Read out by screen readers only.
function tell(text) {
  unseen.textContent = text;
}

function dialog(kind, title, ...inside) {
  const made = el(
    "dialog",
    { class: kind, "aria-label": title },
    el(
      "header",
      {},
      el("h2", { tabindex: "-1", autofocus: true }, title),
      iconButton("close", t("close"), () => made.close()),
    ),
    el("div", { class: "inside" }, ...inside),
  );
  made.addEventListener("click", (event) => {
    if (event.target === made) made.close();
  });
  made.addEventListener("close", () => made.remove());
  root.append(made);
  made.showModal();
  return made;
}

function confirmed(title, text, action) {
  return new Promise((resolve) => {
    const yes = textButton("danger-button", action, () => {
      resolve(true);
      made.close();
    });
    const no = textButton("plain-button", t("cancel"), () => made.close());
    const made = dialog("small", title, el("p", {}, text), el("div", { class: "actions" }, no, yes));
    made.addEventListener("close", () => resolve(false));
    no.focus();
  });
}

function asked(title, value, action) {
  return new Promise((resolve) => {
    const input = el("input", {
      class: "control",
      value,
      "aria-label": title,
      maxlength: 200,
      dir: "auto",
    });
    const form = el(
      "form",
      {
        onsubmit: (event) => {
          event.preventDefault();
          resolve(input.value.trim());
          made.close();
        },
      },
      input,
      el(
        "div",
        { class: "actions" },
        textButton("plain-button", t("cancel"), () => made.close()),
        el("button", { class: "strong-button", type: "submit" }, action),
      ),
    );
    const made = dialog("small", title, form);
    made.addEventListener("close", () => resolve(""));
    input.focus();
    input.select();
  });
}

function menu(button, entries) {
  const made = el(
    "div",
    { class: "menu", popover: "auto", role: "menu" },
    ...entries.map(({ name, label, act, danger }) =>
      el(
        "button",
        {
          type: "button",
          role: "menuitem",
          class: danger ? "danger" : undefined,
          onclick: () => {
            made.hidePopover();
            act();
          },
        },
        icon(name),
        label,
      ),
    ),
  );
  made.addEventListener("keydown", (event) => moveFocus(event, [...made.children]));
  made.addEventListener("toggle", (event) => {
    button.setAttribute("aria-expanded", event.newState === "open");
    if (event.newState === "closed") made.remove();
  });
  root.append(made);
  made.showPopover();
  placeBeside(made, button);
  made.firstChild.focus();
}

function placeBeside(made, button) {
  const at = button.getBoundingClientRect();
  const size = made.getBoundingClientRect();
  const top = at.bottom + size.height + 8 > innerHeight ? at.top - size.height - 4 : at.bottom + 4;
  const left = Math.min(Math.max(8, at.right - size.width), innerWidth - size.width - 8);
  made.style.top = `${top}px`;
  made.style.left = `${left}px`;
}

function moveFocus(event, items) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const at = items.indexOf(document.activeElement);
  items[(at + step + items.length) % items.length].focus();
}
