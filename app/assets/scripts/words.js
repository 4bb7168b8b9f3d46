// The page's words in the user's language, and figures as that language writes them.

/** @import { Begun, TokenCount } from "./types" */
import { root } from "./elements.js";

/** @typedef {keyof typeof import("../../texts/en.json")} TextKey */

/** @type {Record<string, string>} */
let words = {};
let language = "en";

/** @param {Begun} begun */
export function speak(begun) {
  words = begun.texts;
  language = begun.language;
  root.lang = language;
  root.dir = begun.rightToLeft ? "rtl" : "ltr";
  document.documentElement.lang = language;
}

/**
 * The text of that key, with its fields filled in.
 * @param {TextKey} key
 * @param {Record<string, string>} [fields]
 */
export function t(key, fields = {}) {
  const text = words[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => fields[name] ?? whole);
}

/**
 * @param {number} value
 * @param {number} [digits] after the decimal point
 */
export function number(value, digits = 0) {
  return new Intl.NumberFormat(language, {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  }).format(value);
}

/** @param {number} bytes */
export function gigabytes(bytes) {
  return bytes >= 1e8 ? `${number(bytes / 1e9, 1)} GB` : `${number(bytes / 1e6)} MB`;
}

/** @param {number} value */
export function seconds(value) {
  if (value < 60) return t("seconds", { seconds: number(value, value < 10 ? 1 : 0) });
  const whole = Math.round(value);
  return t("minutes", { minutes: number(Math.floor(whole / 60)), seconds: number(whole % 60) });
}

/** @param {TokenCount} refused */
export function doesNotFit({ tokens, window }) {
  return t("does_not_fit", { tokens: number(tokens), window: number(window) });
}
