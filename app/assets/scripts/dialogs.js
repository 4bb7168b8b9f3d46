// Dialogs, questions to the user, and menus.

/** @import { IconName } from "./icons.js" */
import { el, iconButton, root, textButton } from "./elements.js";
import { icon } from "./icons.js";
import { t } from "./words.js";

/**
 * Opens a dialog, which is removed when it is closed.
 * @param {"small" | "wide" | "drawer"} kind
 * @param {string} title
 * @param {...Node} inside
 */
export function dialog(kind, title, ...inside) {
  /** @type {HTMLDialogElement} */
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

/**
 * Whether the user agrees.
 * @param {string} title
 * @param {string} text
 * @param {string} action on the button that agrees
 * @returns {Promise<boolean>}
 */
export function confirmed(title, text, action) {
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

/**
 * A line of text from the user; empty if there is none.
 * @param {string} title
 * @param {string} value to begin with
 * @param {string} action on the button that accepts
 * @returns {Promise<string>}
 */
export function asked(title, value, action) {
  return new Promise((resolve) => {
    const input = el("input", { class: "control", value, "aria-label": title, maxlength: 200, dir: "auto" });
    const cancel = textButton("plain-button", t("cancel"), () => made.close());
    const accept = el("button", { class: "strong-button", type: "submit" }, action);
    const form = el("form", {}, input, el("div", { class: "actions" }, cancel, accept));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      resolve(input.value.trim());
      made.close();
    });
    const made = dialog("small", title, form);
    made.addEventListener("close", () => resolve(""));
    input.focus();
    input.select();
  });
}

/** @typedef {{ name: IconName, label: string, act: () => unknown, danger?: boolean }} MenuEntry */

/**
 * Opens a menu beside its button.
 * @param {HTMLElement} button
 * @param {MenuEntry[]} entries
 */
export function menu(button, entries) {
  const items = entries.map((entry) =>
    el(
      "button",
      {
        type: "button",
        role: "menuitem",
        class: entry.danger ? "danger" : undefined,
        onclick: () => {
          made.hidePopover();
          entry.act();
        },
      },
      icon(entry.name),
      entry.label,
    ),
  );
  const made = el("div", { class: "menu", popover: "auto", role: "menu" }, ...items);
  made.addEventListener("keydown", (event) => moveFocus(event, items));
  made.addEventListener("toggle", (event) => {
    button.setAttribute("aria-expanded", String(event.newState === "open"));
    if (event.newState === "closed") made.remove();
  });
  root.append(made);
  made.showPopover();
  placeBeside(made, button);
  items[0]?.focus();
}

/**
 * @param {HTMLElement} made
 * @param {HTMLElement} button
 */
function placeBeside(made, button) {
  const at = button.getBoundingClientRect();
  const size = made.getBoundingClientRect();
  const top = at.bottom + size.height + 8 > innerHeight ? at.top - size.height - 4 : at.bottom + 4;
  const left = Math.min(Math.max(8, at.right - size.width), innerWidth - size.width - 8);
  made.style.top = `${top}px`;
  made.style.left = `${left}px`;
}

/**
 * @param {KeyboardEvent} event
 * @param {HTMLElement[]} items
 */
function moveFocus(event, items) {
  const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
  if (!step) return;
  event.preventDefault();
  const at = items.findIndex((item) => item === document.activeElement);
  items[(at + step + items.length) % items.length]?.focus();
}
