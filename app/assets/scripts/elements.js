// Elements in one line each, and what the browser offers beside them. Text is never set as HTML.

/**
 * @import { Attributes } from "./types"
 * @import { IconName } from "./icons.js"
 */
import { icon } from "./icons.js";

/** The element that Gradio made for the page. */
export const root = /** @type {HTMLElement} */ (document.querySelector("#page"));

/**
 * @template {keyof HTMLElementTagNameMap} Name
 * @param {Name} name
 * @param {Attributes} [attributes]
 * @param {...(Node | string | null)} children
 * @returns {HTMLElementTagNameMap[Name]}
 */
export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), /** @type {EventListener} */ (value));
    else if (key === "value" && "value" in made) made.value = String(value);
    else made.setAttribute(key, value === true ? "" : String(value));
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/**
 * @param {string} kind
 * @param {string} label
 * @param {Attributes["onclick"]} onclick
 * @param {Attributes} [attributes]
 */
export function textButton(kind, label, onclick, attributes = {}) {
  return el("button", { type: "button", class: kind, onclick, ...attributes }, label);
}

/**
 * @param {IconName} name
 * @param {string} label
 * @param {Attributes["onclick"]} onclick
 * @param {Attributes} [attributes]
 */
export function iconButton(name, label, onclick, attributes = {}) {
  return el(
    "button",
    { type: "button", class: "quiet-button", "aria-label": label, title: label, onclick, ...attributes },
    icon(name),
  );
}

/**
 * A bar that is filled to `part`, from 0 to 1.
 * @param {number} part
 */
export function filled(part) {
  const made = el("i");
  made.style.width = `${100 * Math.min(1, part)}%`;
  return made;
}

/**
 * Lets the user choose files.
 * @param {Attributes} attributes
 * @param {(files: File[]) => unknown} take
 */
export function pickFiles(attributes, take) {
  const input = el("input", { type: "file", ...attributes });
  input.addEventListener("change", () => take([...(input.files ?? [])]));
  input.click();
}

/**
 * @param {Blob} file
 * @returns {Promise<string>}
 */
export function asBase64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => {
      const url = String(reader.result);
      resolve(url.slice(url.indexOf(",") + 1));
    };
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

/**
 * Whether Enter was pressed to send. Not with Shift, nor to end the composing of a word.
 * @param {KeyboardEvent} event
 */
export function sends(event) {
  return event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229;
}

/** Whether the page is as narrow as a phone. */
export function narrow() {
  return matchMedia("(width < 800px)").matches;
}
