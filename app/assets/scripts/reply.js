// What answers a question: one chain, or several beside each other.

/** @import { RunPatch, StoredChain, StoredReply } from "./types" */
import { Chain } from "./chain.js";
import { regenerate, showBranch } from "./conversation.js";
import { copyButton } from "./copying.js";
import { el, iconButton, narrow, textButton } from "./elements.js";
import { siblingButtons } from "./question.js";
import { attempt } from "./server.js";
import { number, t } from "./words.js";

export class Reply {
  element = el("div", { class: "reply" });
  /** Whether its run is in progress. */
  live = true;
  /** Whether another version is shown beside it. */
  compared = false;

  /** @type {Chain[]} */
  #chains = [];
  #ended = false;

  /**
   * @param {StoredReply} stored
   * @param {boolean} last whether it is the conversation's last one
   */
  static of(stored, last) {
    const reply = new Reply();
    reply.#chains = stored.chains.map((each) =>
      storedChain(each, last && !narrow() && stored.chains.length === 1),
    );
    reply.#arrange(stored);
    return reply;
  }

  /** @param {RunPatch} patch */
  patch(patch) {
    while (this.#chains.length < patch.chains.length) this.#chains.push(new Chain(this.#chains.length));
    if (!this.element.children.length) this.#begin();
    this.#ended = patch.ended;
    patch.chains.forEach((chain, index) => this.#chains[index]?.patch(chain, patch.thinking_budget));
  }

  #begin() {
    for (const chain of this.#chains) chain.open(!narrow());
    this.element.replaceChildren(...inPlace(this.#chains));
  }

  /**
   * The stored reply, in the elements that the reader is looking at.
   * @param {StoredReply} stored
   */
  finish(stored) {
    const byId = new Map(this.#chains.map((chain) => [chain.id, chain]));
    const chains = stored.chains.map((each) => byId.get(each.message)).filter((chain) => chain !== undefined);
    if (chains.length < stored.chains.length) return Reply.of(stored, true);
    this.#chains = chains;
    stored.chains.forEach((each, index) => chains[index]?.fill(each, !this.#ended));
    this.#arrange(stored);
    return this;
  }

  /** @param {StoredReply} stored */
  #arrange(stored) {
    this.live = false;
    for (const chain of this.#chains) chain.tools.replaceChildren(...this.#tools(stored, chain));
    const vote = this.#chains.length > 1 ? [voteElement(stored)] : [];
    this.element.replaceChildren(...vote, ...inPlace(this.#chains, stored.agree));
  }

  /**
   * @param {StoredReply} stored
   * @param {Chain} chain
   */
  #tools(stored, chain) {
    const made = [
      copyButton(() => chain.text),
      iconButton("again", t("regenerate"), () => chain.id && regenerate(chain.id)),
      ...siblingButtons(stored.siblings),
    ];
    const other = stored.siblings.previous ?? stored.siblings.next;
    if (other && stored.chains.length === 1) {
      made.push(iconButton("columns", t("side_by_side"), () => this.#compare(stored, other)));
    }
    return made;
  }

  /**
   * Shows another version beside this one.
   * @param {StoredReply} stored
   * @param {string} other its message
   */
  async #compare({ chains: [own], siblings }, other) {
    const second = await attempt("answer", { message: other });
    if (!own || !second) return;
    const later = !siblings.previous;
    const pair = (later ? [own, second] : [second, own]).map(comparedChain);
    const first = siblings.index + (later ? 1 : 0);
    this.compared = true;
    this.element.replaceChildren(
      columns(pair, [], (index) => t("version", { number: number(first + index) })),
    );
  }
}

/**
 * @param {StoredChain} stored
 * @param {boolean} open
 */
function storedChain(stored, open) {
  const chain = new Chain();
  chain.fill(stored);
  chain.open(open);
  return chain;
}

/** @param {StoredChain} stored */
function comparedChain(stored) {
  const chain = storedChain(stored, false);
  chain.tools.replaceChildren(
    copyButton(() => chain.text),
    textButton("quiet-button", t("keep_this"), () => showBranch(stored.message)),
  );
  return chain;
}

/**
 * @param {Chain[]} chains
 * @param {number[]} [agree]
 */
function inPlace(chains, agree = []) {
  const [first] = chains;
  if (first && chains.length === 1) return [first.reasoning, first.answer];
  return [columns(chains, agree, (index) => t("chain", { number: number(index + 1) }))];
}

/**
 * @param {Chain[]} chains
 * @param {number[]} agree
 * @param {(index: number) => string} heading
 */
function columns(chains, agree, heading) {
  const made = chains.map((chain, index) => {
    const agrees = agree.includes(index);
    const badge = agrees ? el("span", { class: "badge" }, t("majority")) : null;
    return el(
      "section",
      { class: "chain", "data-agrees": String(agrees) },
      el("h3", {}, heading(index), badge),
      chain.reasoning,
      chain.answer,
    );
  });
  return el("div", { class: "chains" }, ...made);
}

/** @param {StoredReply} stored */
function voteElement({ agree, chains }) {
  if (!agree.length) return el("div", { class: "vote" }, t("no_majority"));
  const text = t("agree", { count: number(agree.length), total: number(chains.length) });
  return el("div", { class: "vote" }, el("strong", {}, text));
}
