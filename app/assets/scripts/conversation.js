// The conversation that is shown: loading it, and what the user does with its answers.

/** @import { Conversation } from "./types" */
import { say } from "./notices.js";
import { follow, isRunning, runEnded } from "./runs.js";
import { attempt } from "./server.js";
import { Topic } from "./topic.js";
import { t } from "./words.js";

/** @type {Conversation} */
const NEW = { id: null, title: "", exchanges: [], running: null };

/** The conversation that is shown. */
export let shown = NEW;

/**
 * Where the reader goes: to a new conversation, to the end of another, to the last question of
 * this one; or stays.
 * @typedef {"new" | "end" | "question" | "stay"} Place
 */

/** Another conversation is shown, or the same one has changed. */
export const conversationShown = /** @type {Topic<Place>} */ (new Topic());
/** A run has been started. @type {Topic<void>} */
export const runStarted = new Topic();

/**
 * @param {string} id
 * @param {Place} [place]
 */
export async function showConversation(id, place = "end") {
  const next = await attempt("show", { conversation: id });
  if (!next) {
    newConversation();
    return;
  }
  if (location.hash !== `#${id}`) history.pushState(null, "", `#${id}`);
  show(next, place);
}

export function newConversation() {
  if (location.hash) history.pushState(null, "", location.pathname + location.search);
  show(NEW, "new");
}

/** Shows the conversation that the address names: reloading and "back" lead there. */
export async function showAddress() {
  const id = location.hash.slice(1);
  if (id) await showConversation(id);
  else newConversation();
}

/**
 * Loads the shown conversation again. True if that was possible and it is still shown.
 * @returns {Promise<boolean>}
 */
export async function reloadShown() {
  const { id } = shown;
  const next = id && (await attempt("show", { conversation: id }));
  if (!next || next.id !== shown.id) return false;
  show(next, "stay");
  return true;
}

/**
 * @param {Conversation} next
 * @param {Place} place
 */
function show(next, place) {
  shown = next;
  if (next.id && next.running) follow(next.id);
  conversationShown.announce(place);
}

/** @param {string} title */
export function showTitle(title) {
  show({ ...shown, title }, "stay");
}

/** The message that the next question goes below. */
export function lastMessage() {
  const last = shown.exchanges.at(-1);
  return last ? (last.reply?.message ?? last.question.id) : null;
}

/** @param {string} message */
export async function showBranch(message) {
  const next = await attempt("show_branch", { message });
  if (next) show(next, "stay");
}

/** @param {string} message */
export async function regenerate(message) {
  const started = await attempt("regenerate", { message });
  if (started) await showRun(started.conversation);
}

/**
 * Shows a run that has just been started.
 * @param {string} conversation
 */
export async function showRun(conversation) {
  await showConversation(conversation, "question");
  runStarted.announce();
}

/** Whether the conversation that is shown is being answered. */
export function answering() {
  return isRunning(shown.id);
}

export async function stopAnswer() {
  if (shown.id && answering()) await attempt("stop", { conversation: shown.id });
}

/** @param {number} chain */
export async function answerNow(chain) {
  if (shown.id && answering()) await attempt("answer_now", { conversation: shown.id, chain });
}

runEnded.listen(async (conversation) => {
  if (conversation === shown.id && (await reloadShown())) say(t("answer_complete"));
});
