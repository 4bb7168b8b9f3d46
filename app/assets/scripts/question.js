// A question with its files and tools, and editing it.

/** @import { Question, Siblings } from "./types" */
import { regenerate, showBranch, showRun, shown } from "./conversation.js";
import { copyButton } from "./copying.js";
import { el, iconButton, sends, textButton } from "./elements.js";
import { fileChip } from "./files.js";
import { notice } from "./notices.js";
import { attempt } from "./server.js";
import { doesNotFit, number, t } from "./words.js";

const LONG = 1200; // characters; a longer question is folded

/**
 * @param {Question} question
 * @param {{ running: boolean, answered: boolean }} reply
 */
export function questionElement(question, { running, answered }) {
  const { text, attachments, siblings } = question;
  const said = el("div", { class: "said", dir: "auto" }, text);
  const tools = el("div", { class: "tools" });
  if (text.length > LONG) tools.append(unfoldButton(said));
  tools.append(...siblingButtons(siblings));
  if (!running && !shown.running) {
    tools.append(iconButton("pencil", t("edit"), () => edit(question, made)));
    if (!answered) tools.append(iconButton("again", t("regenerate"), () => regenerate(question.id)));
  }
  tools.append(copyButton(() => text));
  const unanswered = !running && !shown.running && !answered;
  tools.classList.toggle("kept", text.length > LONG || siblings.count > 1 || unanswered);
  const made = el(
    "div",
    { class: "question", role: "group", "aria-label": t("you") },
    attachments.length ? el("div", { class: "files" }, ...attachments.map((file) => fileChip(file))) : null,
    text ? said : null,
    tools,
  );
  return made;
}

/** @param {HTMLElement} said */
function unfoldButton(said) {
  said.classList.add("long");
  return textButton("quiet-button", t("show_all"), (event) => {
    said.classList.add("whole");
    event.currentTarget.remove();
  });
}

/**
 * To the other versions of a message.
 * @param {Siblings} siblings
 */
export function siblingButtons({ index, count, previous, next }) {
  if (count < 2) return [];
  return [
    branchButton("before", t("previous"), previous),
    el("span", { class: "place" }, `${number(index + 1)} / ${number(count)}`),
    branchButton("after", t("next"), next),
  ];
}

/**
 * @param {"before" | "after"} name
 * @param {string} label
 * @param {string | null} message
 */
function branchButton(name, label, message) {
  const disabled = !message || Boolean(shown.running);
  return iconButton(name, label, () => message && showBranch(message), { disabled });
}

/**
 * @param {Question} question
 * @param {HTMLElement} place
 */
function edit(question, place) {
  const input = el("textarea", { class: "control", dir: "auto", "aria-label": t("edit") });
  input.value = question.text;
  const close = () => place.replaceWith(questionElement(question, { running: false, answered: true }));
  const send = async () => {
    const sent = await attempt("edit", { message: question.id, text: input.value });
    if (sent?.refused) notice(doesNotFit(sent.refused));
    else if (sent) await showRun(sent.conversation);
  };
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
    else if (sends(event)) send();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  const cancel = textButton("plain-button", t("cancel"), close);
  const resend = textButton("strong-button", t("resend"), send);
  place.replaceChildren(input, el("div", { class: "actions tools kept" }, cancel, resend));
  place.style.width = "100%";
  input.style.minHeight = `${Math.min(320, input.scrollHeight + 12)}px`;
  input.focus();
}
