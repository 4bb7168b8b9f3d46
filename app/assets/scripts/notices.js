// Short messages: shown for some seconds, or read out by screen readers only.

import { el } from "./elements.js";

export const notices = el("div", { class: "notices", role: "status", "aria-live": "polite" });
export const spoken = el("div", { class: "unseen", role: "status", "aria-live": "polite" });

/** @param {string} text */
export function notice(text) {
  const shown = el("div", { class: "notice", dir: "auto" }, text);
  notices.append(shown);
  setTimeout(() => shown.remove(), 6000);
}

/** @param {string} text */
export function say(text) {
  spoken.textContent = text;
}
