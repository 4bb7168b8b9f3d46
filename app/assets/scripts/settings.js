// What the user may choose; the defaults are the model card's.
let settings = {};
let defaults = {};
let languages = {};

const FIELDS = [
  { name: "reasoning", choices: ["auto", "on", "off"] },
  { name: "thinking_budget", step: 1, min: 0, optional: true },
  { name: "max_tokens", step: 1, min: 1, optional: true },
  { name: "temperature", step: 0.05, min: 0, max: 2 },
  { name: "top_p", step: 0.01, min: 0, max: 1 },
  { name: "min_p", step: 0.01, min: 0, max: 1 },
  { name: "seed", step: 1, min: 0, optional: true },
  { name: "history", choices: ["drop", "keep"] },
  { name: "system", tall: true },
  { name: "language", languages: true },
];

function showSettings() {
  const wrong = el("p", { class: "wrong", role: "alert" });
  const fields = FIELDS.map((field) => ({ field, control: settingControl(field) }));
  const keep = async () => {
    const changed = { ...settings };
    for (const { field, control } of fields) changed[field.name] = settingValue(field, control);
    try {
      await settingsChanged(await ask("save_settings", changed));
      wrong.textContent = "";
    } catch (error) {
      wrong.textContent = error.message;
    }
  };
  const reset = async () => {
    const fresh = await attempt("reset_settings");
    if (!fresh) return;
    await settingsChanged(fresh);
    fields.forEach(({ field, control }) => fillControl(field, control));
    wrong.textContent = "";
  };
  fields.forEach(({ control }) => control.addEventListener("change", keep));
  dialog(
    "drawer",
    t("settings"),
    ...fields.map(({ field, control }) => settingField(field, control)),
    wrong,
    el("div", { class: "actions" }, textButton("plain-button", t("reset"), reset)),
  );
}

function settingField(field, control) {
  return el(
    "div",
    { class: `field ${field.tall ? "tall" : "step" in field ? "" : "choice-field"}` },
    el("label", { for: control.id }, t(`setting_${field.name}`)),
    control,
    el("p", { class: "help", id: `${control.id}-help` }, t(`setting_${field.name}_help`)),
  );
}

function settingControl(field) {
  const shared = { id: `setting-${field.name}`, class: "control", "aria-describedby": `setting-${field.name}-help` };
  let control;
  if (field.choices) {
    control = el("select", shared, ...field.choices.map((value) => el("option", { value }, t(`${field.name}_${value}`))));
  } else if (field.languages) {
    const options = [["auto", t("language_auto")], ...Object.entries(languages)];
    control = el("select", shared, ...options.map(([value, name]) => el("option", { value }, name)));
  } else if (field.tall) {
    control = el("textarea", { ...shared, dir: "auto" });
  } else {
    const { step, min, max } = field;
    control = el("input", { ...shared, type: "number", step, min, max, placeholder: t("no_limit") });
    if (field.name === "seed") control.placeholder = t("random");
  }
  fillControl(field, control);
  return control;
}

function fillControl(field, control) {
  control.value = settings[field.name] ?? "";
}

function settingValue(field, control) {
  if (!("step" in field)) return control.value;
  if (control.value === "") return field.optional ? null : defaults[field.name];
  return Number(control.value);
}

async function settingsChanged(changed) {
  const spoken = settings.language;
  settings = changed;
  if (spoken !== changed.language) location.reload();
  countDraft();
}
