// Elements, made in one line. Text is always set as text, never as HTML.
const root = element.querySelector("#page");

function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "value") made.value = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function textButton(kind, label, onclick, attributes = {}) {
  return el("button", { type: "button", class: kind, onclick, ...attributes }, label);
}

function iconButton(name, label, onclick, attributes = {}) {
  return el(
    "button",
    { type: "button", class: "quiet-button", "aria-label": label, title: label, onclick, ...attributes },
    icon(name),
  );
}

function save(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

function asBase64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

function narrow() {
  return window.matchMedia("(width < 800px)").matches;
}
