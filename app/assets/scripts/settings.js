// The user's settings, and the panel that changes them. The defaults are the model card's.

/** @import { Begun, Settings } from "./types" */
/** @import { TextKey } from "./words.js" */
import { dialog } from "./dialogs.js";
import { el, textButton } from "./elements.js";
import { ask, attempt, problem } from "./server.js";
import { Topic } from "./topic.js";
import { t } from "./words.js";

/** @type {Settings} */
export let settings;
/** @type {Settings} */
let defaults;
/** @type {Record<string, string>} */
let languages;

/** The settings have changed. @type {Topic<void>} */
export const settingsChanged = new Topic();

/** @param {Begun} begun */
export function beginSettings(begun) {
  ({ settings, defaults, languages } = begun);
}

/**
 * Raises what `ask` raises.
 * @param {Partial<Settings>} changed
 */
export async function changeSettings(changed) {
  take(await ask("save_settings", { ...settings, ...changed }));
}

/** @param {Settings} changed */
function take(changed) {
  const spoken = settings.language;
  settings = changed;
  if (spoken !== changed.language) location.reload();
  settingsChanged.announce();
}

/**
 * @typedef {object} Field
 * @property {Exclude<keyof Settings, "chains">} name
 * @property {[value: string, label: TextKey][]} [choices]
 * @property {{ step: number, min: number, max?: number }} [range] of a number
 * @property {TextKey} [empty] what an empty number means
 */

/** @type {Field[]} */
const FIELDS = [
  {
    name: "reasoning",
    choices: [["auto", "reasoning_auto"], ["on", "reasoning_on"], ["off", "reasoning_off"]],
  },
  { name: "thinking_budget", range: { step: 1, min: 0 }, empty: "no_limit" },
  { name: "max_tokens", range: { step: 1, min: 1 }, empty: "no_limit" },
  { name: "temperature", range: { step: 0.05, min: 0, max: 2 } },
  { name: "top_p", range: { step: 0.01, min: 0, max: 1 } },
  { name: "min_p", range: { step: 0.01, min: 0, max: 1 } },
  { name: "seed", range: { step: 1, min: 0 }, empty: "random" },
  { name: "history", choices: [["drop", "history_drop"], ["keep", "history_keep"]] },
  { name: "system" },
  { name: "language", choices: [["auto", "language_auto"]] },
];

/** @typedef {HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement} Control */

export function showSettings() {
  const wrong = el("p", { class: "wrong", role: "alert" });
  const fields = FIELDS.map((field) => ({ field, control: settingControl(field) }));
  const keep = async () => {
    const values = fields.map(({ field, control }) => [field.name, settingValue(field, control)]);
    try {
      await changeSettings(Object.fromEntries(values));
      wrong.textContent = "";
    } catch (error) {
      wrong.textContent = problem(error);
    }
  };
  const reset = async () => {
    const fresh = await attempt("reset_settings", {});
    if (!fresh) return;
    take(fresh);
    for (const { field, control } of fields) fillControl(field, control);
    wrong.textContent = "";
  };
  for (const { control } of fields) control.addEventListener("change", keep);
  dialog(
    "drawer",
    t("settings"),
    ...fields.map(({ field, control }) => settingField(field, control)),
    wrong,
    el("div", { class: "actions" }, textButton("plain-button", t("reset"), reset)),
  );
}

/**
 * @param {Field} field
 * @param {Control} control
 */
function settingField(field, control) {
  const kind = field.range ? "" : field.choices ? "choice-field" : "tall";
  return el(
    "div",
    { class: `field ${kind}` },
    el("label", { for: control.id }, t(`setting_${field.name}`)),
    control,
    el("p", { class: "help", id: `${control.id}-help` }, t(`setting_${field.name}_help`)),
  );
}

/** @param {Field} field */
function settingControl(field) {
  const id = `setting-${field.name}`;
  const shared = { id, class: "control", "aria-describedby": `${id}-help` };
  const control = bareControl(field, shared);
  fillControl(field, control);
  return control;
}

/**
 * @param {Field} field
 * @param {Record<string, string>} shared
 * @returns {Control}
 */
function bareControl(field, shared) {
  if (field.range) {
    const placeholder = field.empty && t(field.empty);
    return el("input", { ...shared, type: "number", ...field.range, placeholder });
  }
  if (!field.choices) return el("textarea", { ...shared, dir: "auto" });
  const choices = field.choices.map(([value, label]) => [value, t(label)]);
  if (field.name === "language") choices.push(...Object.entries(languages));
  return el("select", shared, ...choices.map(([value, name]) => el("option", { value }, name ?? "")));
}

/**
 * @param {Field} field
 * @param {Control} control
 */
function fillControl(field, control) {
  control.value = String(settings[field.name] ?? "");
}

/**
 * @param {Field} field
 * @param {Control} control
 */
function settingValue(field, control) {
  if (!field.range) return control.value;
  if (control.value === "") return field.empty ? null : defaults[field.name];
  return Number(control.value);
}
