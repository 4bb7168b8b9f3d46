// One chain: its reasoning, its answer, and the figures of both.

/** @import { ChainPatch, Figures, StoredChain, TextPatch } from "./types" */
import { answerNow } from "./conversation.js";
import { labelCodeButtons } from "./copying.js";
import { el, textButton } from "./elements.js";
import { icon } from "./icons.js";
import { number, seconds, t } from "./words.js";

export class Chain {
  /** The id of its message. @type {string | null} */
  id = null;
  /** The answer as the model wrote it, once it is stored. */
  text = "";
  /** Buttons below the answer. */
  tools = el("div", { class: "tools" });

  #running = false;
  #following = true;

  #time = el("span");
  #size = el("span", { class: "size" });
  #title = el("span", { class: "name" }, t("reasoning"));
  /** @type {HTMLButtonElement} */
  #head = el(
    "button",
    { type: "button", "aria-expanded": "true", onclick: () => this.open(!this.#isOpen) },
    this.#title,
    el("span", { class: "count" }, this.#time, this.#size),
    icon("down"),
  );
  #spent = el("i");
  #budget = el("div", { class: "budget", "aria-hidden": "true" }, this.#spent);
  #thoughts = el("div", { class: "written", tabindex: "0", role: "region", "aria-label": t("reasoning") });
  #jump = textButton("jump", t("jump_to_latest"), () => this.#follow(), { hidden: true });
  /** @type {HTMLElement} */
  reasoning = el(
    "section",
    { class: "reasoning", "data-open": "true" },
    this.#head,
    this.#budget,
    el("div", { class: "thoughts" }, this.#thoughts, this.#jump),
  );

  #said = el("div", { class: "written" });
  #state = el("span");
  #rate = el("span", { class: "line" });
  #answerNow = el(
    "button",
    { type: "button", class: "plain-button", onclick: () => answerNow(this.#index) },
    icon("skip"),
    t("answer_now"),
  );
  #waiting = el(
    "div",
    { class: "waiting", hidden: true },
    el("span", { class: "dot" }),
    this.#state,
    this.#rate,
    this.#answerNow,
  );
  #remark = el("div", { class: "remark", hidden: true });
  #line = el("div", { class: "line" });
  answer = el(
    "section",
    { class: "answer", "aria-label": t("answer") },
    this.#said,
    this.#waiting,
    this.#remark,
    el("div", { class: "after" }, this.tools, this.#line),
  );

  #index;

  /** @param {number} index in its run */
  constructor(index = 0) {
    this.#index = index;
    this.#thoughts.addEventListener("scroll", () => this.#noteScroll());
  }

  /** @returns {boolean} */
  get #isOpen() {
    return this.reasoning.dataset.open === "true";
  }

  /** @param {boolean} open whether the reasoning is unfolded */
  open(open) {
    this.reasoning.dataset.open = String(open);
    this.#head.setAttribute("aria-expanded", String(open));
    if (open && this.#running) this.#follow();
  }

  // A reader who scrolls up is left alone.
  #noteScroll() {
    const { scrollHeight, scrollTop, clientHeight } = this.#thoughts;
    this.#following = scrollHeight - scrollTop - clientHeight < 40;
    this.#jump.hidden = this.#following || !this.#running;
  }

  #follow() {
    this.#following = true;
    this.#jump.hidden = true;
    this.#thoughts.scrollTop = this.#thoughts.scrollHeight;
  }

  /**
   * Shows what has changed while it runs.
   * @param {ChainPatch} patch
   * @param {number | null} budget
   */
  patch(patch, budget) {
    this.id = patch.message;
    this.#running = !["done", "failed", "stopped"].includes(patch.state);
    // The last scroll event may be older than the reader's last scroll.
    if (this.#isOpen && this.#thoughts.childElementCount) this.#noteScroll();
    const grew = patchText(this.#thoughts, patch.reasoning);
    patchText(this.#said, patch.answer);
    if (grew && this.#following && this.#isOpen) this.#thoughts.scrollTop = this.#thoughts.scrollHeight;
    this.#title.textContent = patch.state === "reasoning" ? t("thinking") : t("reasoning");
    this.#showReasoningFigures(patch.reasoning_tokens, patch.reasoning_seconds, budget);
    this.#showState(patch);
    showFigures(this.#waiting.hidden ? this.#line : this.#rate, patch, patch.prefill_total);
    if (!this.#running) this.#jump.hidden = true;
  }

  /** @param {ChainPatch} patch */
  #showState({ state, error, ...patch }) {
    this.#waiting.hidden = !this.#running || state === "answer";
    this.reasoning.hidden = state === "answer" && !patch.reasoning_tokens;
    this.#answerNow.hidden = state !== "reasoning";
    if (state === "queued") this.#state.textContent = t("queued");
    if (state === "prefill") this.#state.textContent = prefillText(patch);
    if (state === "reasoning") this.#state.textContent = "";
    if (error) this.#showProblem(error);
  }

  /**
   * Shows a stored chain.
   * @param {StoredChain} stored
   * @param {boolean} [redraw] false: its texts are shown already
   */
  fill(stored, redraw = true) {
    this.id = stored.message;
    this.text = stored.text;
    this.#running = false;
    this.#jump.hidden = true;
    this.#waiting.hidden = true;
    if (redraw) {
      this.#thoughts.innerHTML = stored.reasoning;
      this.#said.innerHTML = stored.answer;
      labelCodeButtons(this.#thoughts);
      labelCodeButtons(this.#said);
    }
    const { figures } = stored;
    if (figures) {
      this.#title.textContent = t("reasoning");
      this.#showReasoningFigures(figures.reasoning_tokens, figures.reasoning_seconds, figures.thinking_budget);
      showFigures(this.#line, figures, figures.prompt_tokens);
    }
    this.reasoning.hidden = !stored.reasoning;
    if (figures?.error) this.#showProblem(figures.error);
    else this.#showRemark(endingText(stored.ending, figures));
  }

  /**
   * @param {number} tokens
   * @param {number | null} time
   * @param {number | null} budget
   */
  #showReasoningFigures(tokens, time, budget) {
    this.#time.textContent = time ? seconds(time) : "";
    this.#size.textContent = tokens ? t("tokens", { count: number(tokens) }) : "";
    const part = budget ? Math.min(1, tokens / budget) : 0;
    this.#spent.style.width = `${100 * part}%`;
    this.#budget.dataset.tight = String(part > 0.8);
    this.#budget.title = budget ? t("of_budget", { count: number(tokens), budget: number(budget) }) : "";
  }

  /** @param {string} text */
  #showRemark(text) {
    this.#remark.textContent = text;
    this.#remark.hidden = !text;
  }

  /** @param {string} text */
  #showProblem(text) {
    this.#remark.classList.add("bad");
    this.#showRemark(text);
  }
}

/**
 * Replaces the blocks from `start` on. True if there were any new ones.
 * @param {HTMLElement} body
 * @param {TextPatch} patch
 */
function patchText(body, { start, blocks }) {
  if (!blocks.length && body.children.length === start) return false;
  while (body.children.length > start) body.lastElementChild?.remove();
  body.insertAdjacentHTML("beforeend", blocks.join(""));
  labelCodeButtons(body);
  return true;
}

/** @param {Pick<ChainPatch, "prefill_done" | "prefill_total">} patch */
function prefillText({ prefill_done: done, prefill_total: total }) {
  if (!total) return t("reading");
  return t("reading_prompt", { count: number(total), percent: number(Math.floor((100 * done) / total)) });
}

/**
 * @param {HTMLElement} line
 * @param {Pick<ChainPatch, "tokens_per_second" | "seconds_to_first_token" | "cached_tokens">} figures
 * @param {number} prompt tokens
 */
function showFigures(line, figures, prompt) {
  const { tokens_per_second: rate, seconds_to_first_token: first, cached_tokens: cached } = figures;
  const parts = [];
  if (rate) parts.push(t("tokens_per_second", { rate: number(rate, rate < 100 ? 1 : 0) }));
  if (first !== null) parts.push(t("first_token", { seconds: number(first, 2) }));
  if (cached) parts.push(t("cached_tokens", { count: number(cached), total: number(prompt) }));
  while (line.children.length > parts.length) line.lastElementChild?.remove();
  while (line.children.length < parts.length) line.append(el("span"));
  parts.forEach((part, index) => {
    const span = line.children[index];
    if (span && span.textContent !== part) span.textContent = part;
  });
}

/**
 * @param {string | null} ending
 * @param {Figures | null} figures
 */
function endingText(ending, figures) {
  if (ending === null) return t("ended_interrupted");
  if (ending === "length") return t("ended_length");
  if (ending === "repetition") return t("ended_repetition");
  if (ending === "cancelled" || ending === "timeout") return t("ended_stopped");
  return figures?.reasoning_closed_by_force ? t("ended_reasoning_closed") : "";
}
