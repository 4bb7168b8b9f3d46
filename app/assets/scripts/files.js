// Files that become part of the message.
const fileRow = el("div", { class: "files", hidden: true });
const MOST_BYTES = 20 * 2 ** 20;
let attached = [];

function fileChip(file, onremove) {
  return el(
    "span",
    { class: "file" },
    el("span", { class: "name", dir: "auto" }, file.name),
    el("span", { class: "size" }, t("tokens", { count: number(file.tokens) })),
    onremove
      ? el("button", { type: "button", "aria-label": t("remove_file", { name: file.name }), onclick: onremove }, icon("close"))
      : null,
  );
}

function pickFiles() {
  const input = el("input", { type: "file", multiple: true });
  input.onchange = () => attach([...input.files]);
  input.click();
}

async function attach(files) {
  for (const file of files) {
    if (file.size > MOST_BYTES) {
      notice(t("file_too_large", { name: file.name, limit: gigabytes(MOST_BYTES) }));
      continue;
    }
    const read = await attempt("attach", { name: file.name, data: await asBase64(file) });
    if (read) attached = [...attached, read];
    drawFiles();
  }
  draftChanged();
  draft.focus();
}

function drawFiles() {
  fileRow.hidden = !attached.length;
  fileRow.replaceChildren(
    ...attached.map((file) =>
      fileChip(file, () => {
        attached = attached.filter((other) => other !== file);
        drawFiles();
        draftChanged();
      }),
    ),
  );
}

function sentFiles() {
  return attached.map(({ name, text, tokens }) => ({ name, text, tokens }));
}

function clearFiles() {
  attached = [];
  drawFiles();
}

function acceptDrops(box) {
  const has = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  root.addEventListener("dragover", (event) => {
    if (!has(event)) return;
    event.preventDefault();
    box.classList.add("dropping");
  });
  root.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) box.classList.remove("dropping");
  });
  root.addEventListener("drop", (event) => {
    if (!has(event)) return;
    event.preventDefault();
    box.classList.remove("dropping");
    attach([...event.dataTransfer.files]);
  });
  draft.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    attach(files);
  });
}
