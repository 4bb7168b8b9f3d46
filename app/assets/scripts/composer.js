// Where the user writes: the draft, its files, and sending it.

/** @import { Draft } from "./types" */
import {
  answering,
  conversationShown,
  lastMessage,
  showRun,
  shown,
  stopAnswer,
} from "./conversation.js";
import { el, iconButton, narrow, root, sends, textButton } from "./elements.js";
import { acceptFiles, attached, chooseFiles, clearFiles, fileRow, filesChanged } from "./files.js";
import { advice, showWindow } from "./gauges.js";
import { icon } from "./icons.js";
import { notice } from "./notices.js";
import { runEnded } from "./runs.js";
import { ask, problem } from "./server.js";
import { changeSettings, settings, settingsChanged } from "./settings.js";
import { status, statusChanged } from "./status.js";
import { doesNotFit, number, t } from "./words.js";

const MOST_CHAINS = 8;
const TYPING_PAUSE = 350; // milliseconds without a key, after which tokens are counted

export const draft = el("textarea", { id: "draft", rows: 1, dir: "auto" });
const sendButton = el("button", { type: "button", class: "send", onclick: sendOrStop });
const refusal = el("div", { class: "refusal", role: "alert", hidden: true });
const estimate = el("span", { class: "estimate" });
const chainChoice = el("select");
const examples = el("div", { class: "examples" });
const greeting = el("div", { class: "greeting" });
let counting = 0;

/** @param {string[]} exampleTexts */
export function composer(exampleTexts) {
  greeting.append(el("h2", {}, t("greeting")), el("p", {}, t("greeting_help")));
  examples.append(...exampleTexts.map(exampleButton));
  fillDraftBox();
  fillChainChoice();
  const row = el(
    "div",
    { class: "row" },
    iconButton("clip", t("attach"), chooseFiles),
    el("span", { class: "choice" }, chainChoice, icon("down")),
    el("span", { class: "space" }),
    estimate,
    sendButton,
  );
  const box = el("div", { class: "composer" }, fileRow, refusal, draft, row);
  acceptFiles(box, draft);
  return el("div", { class: "dock" }, el("div", {}, greeting, box, advice, examples));
}

/** @param {string} text */
function exampleButton(text) {
  const use = () => {
    draft.value = text;
    draftChanged();
    send();
  };
  return textButton("example", text, use, { dir: "auto" });
}

function fillDraftBox() {
  draft.placeholder = t("ask");
  draft.setAttribute("aria-label", t("ask"));
  draft.addEventListener("input", draftChanged);
  draft.addEventListener("keydown", (event) => {
    if (!sends(event)) return;
    event.preventDefault();
    if (!answering()) send();
  });
}

function fillChainChoice() {
  chainChoice.setAttribute("aria-label", t("parallel_thinking"));
  chainChoice.title = t("parallel_help");
  for (let k = 1; k <= MOST_CHAINS; k += 1) {
    const label = k === 1 ? t("one_chain") : t("chains", { count: number(k) });
    chainChoice.append(el("option", { value: k }, label));
  }
  chainChoice.value = String(settings.chains);
  chainChoice.addEventListener("change", async () => {
    try {
      await changeSettings({ chains: Number(chainChoice.value) });
    } catch (error) {
      notice(problem(error));
    }
  });
}

function draftChanged() {
  draft.style.height = "auto";
  draft.style.height = `${draft.scrollHeight}px`;
  refusal.hidden = true;
  showRunning();
  clearTimeout(counting);
  counting = setTimeout(countTokens, TYPING_PAUSE);
}

// Tokens that the conversation takes with the draft, before it is sent.
async function countTokens() {
  if (status.model.state !== "ready" || answering()) return;
  const form = draftForm();
  try {
    const { tokens, window } = await ask("count", form);
    if (form.text !== draft.value) return;
    const drafted = Boolean(form.text || form.files.length);
    showWindow(tokens, window);
    estimate.textContent = drafted ? t("tokens", { count: number(tokens) }) : "";
    estimate.dataset.over = String(tokens >= window);
  } catch {
    estimate.textContent = "";
  }
}

/** @returns {Draft} */
function draftForm() {
  return { parent: lastMessage(), text: draft.value, files: attached };
}

// What can be done now: send, or stop the answer that is being written.
function showRunning() {
  const busy = answering();
  const ready = status.model.state === "ready";
  const label = busy ? t("stop") : t("send");
  root.dataset.busy = String(busy);
  if (busy) estimate.textContent = "";
  sendButton.dataset.does = busy ? "stop" : "send";
  sendButton.replaceChildren(icon(busy ? "stop" : "up"));
  sendButton.setAttribute("aria-label", label);
  sendButton.title = label;
  sendButton.disabled = !busy && (isEmpty() || !ready);
  greeting.hidden = shown.exchanges.length > 0;
  examples.hidden = shown.exchanges.length > 0 || !ready;
}

function isEmpty() {
  return !draft.value.trim() && !attached.length;
}

function sendOrStop() {
  if (answering()) stopAnswer();
  else send();
}

async function send() {
  if (isEmpty() || sendButton.disabled) return;
  sendButton.disabled = true;
  refusal.hidden = true;
  const chains = Number(chainChoice.value);
  try {
    const sent = await ask("send", { ...draftForm(), conversation: shown.id, chains });
    if (sent.refused) refuse(doesNotFit(sent.refused));
    else await messageSent(sent.conversation);
  } catch (error) {
    refuse(problem(error));
  }
  showRunning();
}

// Only now is the box emptied: a message that is refused stays there.
/** @param {string} conversation */
async function messageSent(conversation) {
  draft.value = "";
  clearFiles();
  draftChanged();
  await showRun(conversation);
}

/** @param {string} text */
function refuse(text) {
  refusal.textContent = text;
  refusal.hidden = false;
}

conversationShown.listen((place) => {
  showRunning();
  if (place === "new" && !narrow()) draft.focus();
  countTokens();
});
filesChanged.listen(() => {
  draftChanged();
  draft.focus();
});
runEnded.listen(showRunning);
settingsChanged.listen(countTokens);
statusChanged.listen(({ otherModel }) => {
  if (!otherModel) return;
  showRunning();
  countTokens();
});

// Escape stops an answer, / goes to the draft.
document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.isComposing) return;
  if (root.querySelector("dialog[open], .menu:popover-open")) return;
  const stops = event.key === "Escape" && answering();
  const writes = event.key === "/" && !event.ctrlKey && !event.metaKey && !isTyping(event.target);
  if (stops) stopAnswer();
  else if (writes) draft.focus();
  else return;
  event.preventDefault();
});

/** @param {EventTarget | null} target */
function isTyping(target) {
  return target instanceof Element && target.closest("input, textarea, select, [contenteditable]");
}
