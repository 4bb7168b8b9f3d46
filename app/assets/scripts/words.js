// The page's words in the user's language, and figures written as that language writes them.
let words = {};
let language = "en";

function t(key, fields = {}) {
  const text = words[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => fields[name] ?? whole);
}

function speak(begun) {
  words = begun.texts;
  language = begun.language;
  root.lang = language;
  root.dir = begun.rightToLeft ? "rtl" : "ltr";
  document.documentElement.lang = language;
}

function number(value, digits = 0) {
  return new Intl.NumberFormat(language, {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  }).format(value);
}

function gigabytes(bytes) {
  return bytes >= 1e8 ? `${number(bytes / 1e9, 1)} GB` : `${number(bytes / 1e6)} MB`;
}

function seconds(value) {
  if (value < 60) return t("seconds", { seconds: number(value, value < 10 ? 1 : 0) });
  const whole = Math.round(value);
  return t("minutes", { minutes: number(Math.floor(whole / 60)), seconds: number(whole % 60) });
}
