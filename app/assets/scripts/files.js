// Files that become part of the message.

/** @import { AttachedFile } from "./types" */
import { asBase64, el, pickFiles, root } from "./elements.js";
import { icon } from "./icons.js";
import { notice } from "./notices.js";
import { attempt } from "./server.js";
import { Topic } from "./topic.js";
import { gigabytes, number, t } from "./words.js";

const MOST_BYTES = 20 * 2 ** 20;

export const fileRow = el("div", { class: "files", hidden: true });
/** The user has attached files or removed one. @type {Topic<void>} */
export const filesChanged = new Topic();
/** @type {AttachedFile[]} */
export let attached = [];

/**
 * @param {{ name: string, tokens: number }} file
 * @param {() => unknown} [onremove]
 */
export function fileChip(file, onremove) {
  const label = t("remove_file", { name: file.name });
  return el(
    "span",
    { class: "file" },
    el("span", { class: "name", dir: "auto" }, file.name),
    el("span", { class: "size" }, t("tokens", { count: number(file.tokens) })),
    onremove ? el("button", { type: "button", "aria-label": label, onclick: onremove }, icon("close")) : null,
  );
}

export function chooseFiles() {
  pickFiles({ multiple: true }, attach);
}

export function clearFiles() {
  setFiles([]);
}

/**
 * Takes files that are dropped anywhere on the page or pasted into the draft.
 * @param {HTMLElement} box shows where dropped files go
 * @param {HTMLElement} draft
 */
export function acceptFiles(box, draft) {
  root.addEventListener("dragover", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    box.classList.add("dropping");
  });
  root.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) box.classList.remove("dropping");
  });
  root.addEventListener("drop", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
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

/** @param {File[]} files */
async function attach(files) {
  for (const file of files) {
    if (file.size > MOST_BYTES) {
      notice(t("file_too_large", { name: file.name, limit: gigabytes(MOST_BYTES) }));
      continue;
    }
    const read = await attempt("attach", { name: file.name, data: await asBase64(file) });
    if (read) setFiles([...attached, read]);
  }
  filesChanged.announce();
}

/** @param {AttachedFile[]} files */
function setFiles(files) {
  attached = files;
  fileRow.hidden = !files.length;
  fileRow.replaceChildren(...files.map((file) => fileChip(file, () => remove(file))));
}

/** @param {AttachedFile} file */
function remove(file) {
  setFiles(attached.filter((other) => other !== file));
  filesChanged.announce();
}
