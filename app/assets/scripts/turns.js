// The shown conversation: its turns, drawn again only where something has changed.

/**
 * @import { Place } from "./conversation.js"
 * @import { Exchange, RunPatch } from "./types"
 */
import { conversationShown, shown } from "./conversation.js";
import { el, root } from "./elements.js";
import { questionElement } from "./question.js";
import { Reply } from "./reply.js";
import { runPatched } from "./runs.js";

const turns = el("div", { class: "turns" });
export const scroller = el("div", { class: "scroll", tabindex: "-1" }, turns);

/** @typedef {{ key: string, element: HTMLElement, question: string, reply: Reply | null }} Drawn */

/** @type {{ conversation: string | null, exchanges: Drawn[] }} */
let drawn = { conversation: null, exchanges: [] };

function drawConversation() {
  const before = drawn.conversation === shown.id ? drawn.exchanges : [];
  const exchanges = shown.exchanges.map((exchange, index) => drawnExchange(exchange, before[index]));
  drawn = { conversation: shown.id, exchanges };
  turns.replaceChildren(...exchanges.map((each) => each.element));
  root.dataset.empty = String(!exchanges.length);
}

/**
 * @param {Exchange} exchange
 * @param {Drawn} [before] what is in its place
 * @returns {Drawn}
 */
function drawnExchange(exchange, before) {
  const { question, reply: stored } = exchange;
  const last = exchange === shown.exchanges.at(-1);
  const key = JSON.stringify([exchange, last, shown.running]);
  if (before?.key === key && !before.reply?.compared) return before;
  const running = shown.running === question.id;
  // A reply that has just been written stays where it is; only what is below it is new.
  const live = before?.question === question.id && before.reply?.live ? before.reply : null;
  let reply = null;
  if (running) reply = live ?? new Reply();
  else if (stored) reply = live ? live.finish(stored) : Reply.of(stored, last);
  const element = el(
    "article",
    { class: "exchange", "data-question": question.id },
    questionElement(question, { running, answered: stored !== null }),
    reply && reply.element,
  );
  return { key, element, question: question.id, reply };
}

/** @param {{ conversation: string, patch: RunPatch }} patched */
function drawPatch({ conversation, patch }) {
  if (conversation !== shown.id) return;
  const reply = drawn.exchanges.find((each) => each.question === patch.question)?.reply;
  if (!reply?.live) return;
  const near = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 160;
  reply.patch(patch);
  if (near && patch.state === "answer") scroller.scrollTop = scroller.scrollHeight;
}

/** @param {Place} place */
export function scrollTo(place) {
  if (place === "stay") return;
  const last = /** @type {HTMLElement | null} */ (turns.lastElementChild);
  const toQuestion = place === "question" && last;
  turns.style.minHeight = toQuestion ? `${last.offsetTop + scroller.clientHeight}px` : "";
  scroller.scrollTop = toQuestion ? last.offsetTop - 12 : scroller.scrollHeight;
}

conversationShown.listen(drawConversation);
runPatched.listen(drawPatch);
