// Copying a message or a block of code to the clipboard.

import { iconButton, root } from "./elements.js";
import { icon } from "./icons.js";
import { notice, say } from "./notices.js";
import { t } from "./words.js";

/** @param {() => string} text */
export function copyButton(text) {
  return iconButton("copy", t("copy"), (event) => copyText(text(), event.currentTarget));
}

/**
 * The server writes the buttons of code blocks without a label.
 * @param {Element} body
 */
export function labelCodeButtons(body) {
  for (const button of body.querySelectorAll(".copy-code:empty")) button.textContent = t("copy");
}

/**
 * @param {string} text
 * @param {HTMLElement} button
 */
async function copyText(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    notice(t("copy_failed"));
    return;
  }
  say(t("copied"));
  const kept = [...button.childNodes];
  button.replaceChildren(button.classList.contains("copy-code") ? t("copied") : icon("tick"));
  setTimeout(() => button.replaceChildren(...kept), 1500);
}

root.addEventListener("click", (event) => {
  const button = /** @type {Element} */ (event.target).closest(".copy-code");
  const code = button?.closest("figure")?.querySelector("code")?.textContent;
  if (button && code) copyText(code, /** @type {HTMLElement} */ (button));
});
