// One chain: its reasoning, its answer, and the figures of both.
class Chain {
  constructor(index = 0) {
    this.index = index;
    this.id = null;
    this.text = "";
    this.running = false;
    this.following = true;
    this.time = el("span", {});
    this.size = el("span", { class: "size" });
    this.count = el("span", { class: "count" }, this.time, this.size);
    this.title = el("span", { class: "name" }, t("reasoning"));
    this.head = el(
      "button",
      { type: "button", "aria-expanded": "true", onclick: () => this.open(!this.isOpen) },
      this.title,
      this.count,
      icon("down"),
    );
    this.spent = el("i");
    this.budget = el("div", { class: "budget", "aria-hidden": "true" }, this.spent);
    this.thoughts = el("div", { class: "written", tabindex: "0", role: "region", "aria-label": t("reasoning") });
    this.jump = textButton("jump", t("jump_to_latest"), () => this.follow(), { hidden: true });
    this.reasoning = el(
      "section",
      { class: "reasoning", "data-open": "true" },
      this.head,
      this.budget,
      el("div", { class: "thoughts" }, this.thoughts, this.jump),
    );
    this.said = el("div", { class: "written" });
    this.status = el("span", {});
    this.answerNow = textButton("plain-button", "", () => answerNow(this.index));
    this.answerNow.append(icon("skip"), t("answer_now"));
    this.rate = el("span", { class: "line" });
    this.waiting = el(
      "div",
      { class: "waiting", hidden: true },
      el("span", { class: "dot" }),
      this.status,
      this.rate,
      this.answerNow,
    );
    this.remark = el("div", { class: "remark", hidden: true });
    this.line = el("div", { class: "line" });
    this.tools = el("div", { class: "tools" });
    this.answer = el(
      "section",
      { class: "answer", "aria-label": t("answer") },
      this.said,
      this.waiting,
      this.remark,
      el("div", { class: "after" }, this.tools, this.line),
    );
    this.thoughts.addEventListener("scroll", () => this.noteScroll());
  }

  get isOpen() {
    return this.reasoning.dataset.open === "true";
  }

  open(open) {
    this.reasoning.dataset.open = String(open);
    this.head.setAttribute("aria-expanded", String(open));
    if (open && this.running) this.follow();
  }

  // The reader who scrolls up is left alone.
  noteScroll() {
    const rest = this.thoughts.scrollHeight - this.thoughts.scrollTop - this.thoughts.clientHeight;
    this.following = rest < 40;
    this.jump.hidden = this.following || !this.running;
  }

  follow() {
    this.following = true;
    this.jump.hidden = true;
    this.thoughts.scrollTop = this.thoughts.scrollHeight;
  }

  patch(chain, budget) {
    this.id = chain.message;
    this.running = !["done", "failed", "stopped"].includes(chain.state);
    // The reader may have scrolled since the last event told.
    if (this.isOpen && this.thoughts.childElementCount) this.noteScroll();
    const grew = patchText(this.thoughts, chain.reasoning);
    patchText(this.said, chain.answer);
    if (grew && this.following && this.isOpen) this.thoughts.scrollTop = this.thoughts.scrollHeight;
    this.showFigures({
      tokens: chain.reasoning_tokens,
      seconds: chain.reasoning_seconds,
      budget,
      thinking: chain.state === "reasoning",
    });
    this.showState(chain);
    this.showLine(
      this.waiting.hidden ? this.line : this.rate,
      chain.tokens_per_second,
      chain.seconds_to_first_token,
      chain.cached_tokens,
      chain.prefill_total,
    );
    if (!this.running) this.jump.hidden = true;
  }

  // A stored answer. What a running one has shown already is left as it is.
  fill(view, { redraw = true } = {}) {
    this.id = view.message;
    this.text = view.text;
    this.running = false;
    this.jump.hidden = true;
    this.waiting.hidden = true;
    if (redraw) {
      this.thoughts.innerHTML = view.reasoning;
      this.said.innerHTML = view.answer;
      nameButtons(this.said);
      nameButtons(this.thoughts);
    }
    const figures = view.figures;
    if (figures) {
      this.showFigures({
        tokens: figures.reasoning_tokens,
        seconds: figures.reasoning_seconds,
        budget: figures.thinking_budget,
      });
      this.showLine(
        this.line,
        figures.tokens_per_second,
        figures.seconds_to_first_token,
        figures.cached_tokens,
        figures.prompt_tokens,
      );
    }
    this.reasoning.hidden = !view.reasoning;
    this.showRemark(view.ending, figures);
  }

  showFigures({ tokens, seconds: time, budget, thinking = false }) {
    this.time.textContent = time ? seconds(time) : "";
    this.size.textContent = tokens ? t("tokens", { count: number(tokens) }) : "";
    this.title.textContent = thinking ? t("thinking") : t("reasoning");
    const part = budget ? Math.min(1, tokens / budget) : 0;
    this.spent.style.width = `${100 * part}%`;
    this.budget.dataset.tight = String(part > 0.8);
    this.budget.title = budget ? t("of_budget", { count: number(tokens), budget: number(budget) }) : "";
  }

  showState(chain) {
    const waits = this.running && chain.state !== "answer";
    this.waiting.hidden = !waits;
    this.reasoning.hidden = chain.state === "answer" && !chain.reasoning_tokens;
    this.answerNow.hidden = chain.state !== "reasoning";
    if (chain.state === "queued") this.status.textContent = t("queued");
    if (chain.state === "prefill") this.status.textContent = prefillText(chain);
    if (chain.state === "reasoning") this.status.textContent = "";
    if (chain.error) this.showProblem(chain.error);
  }

  showLine(line, rate, first, cached, prompt) {
    const parts = [];
    if (rate) parts.push(t("tokens_per_second", { rate: number(rate, rate < 100 ? 1 : 0) }));
    if (first !== null && first !== undefined) parts.push(t("first_token", { seconds: number(first, 2) }));
    if (cached) parts.push(t("cached_tokens", { count: number(cached), total: number(prompt) }));
    if (line.childElementCount === parts.length) {
      parts.forEach((part, i) => {
        if (line.children[i].textContent !== part) line.children[i].textContent = part;
      });
    } else {
      line.replaceChildren(...parts.map((part) => el("span", {}, part)));
    }
  }

  showRemark(ending, figures) {
    if (figures?.error) return this.showProblem(figures.error);
    const forced = figures?.reasoning_closed_by_force ? t("ended_reasoning_closed") : "";
    const texts = {
      length: t("ended_length"),
      repetition: t("ended_repetition"),
      cancelled: t("ended_stopped"),
      timeout: t("ended_stopped"),
    };
    const text = ending === null ? t("ended_interrupted") : (texts[ending] ?? forced);
    this.remark.textContent = text;
    this.remark.hidden = !text;
    return undefined;
  }

  showProblem(text) {
    this.remark.textContent = text;
    this.remark.classList.add("bad");
    this.remark.hidden = false;
  }
}

function prefillText(chain) {
  if (!chain.prefill_total) return t("reading");
  const percent = number(Math.floor((100 * chain.prefill_done) / chain.prefill_total));
  return t("reading_prompt", { count: number(chain.prefill_total), percent });
}

// Blocks are the children of the body: those from `start` on are replaced. True where any were.
function patchText(body, { start, blocks }) {
  if (!blocks.length && body.children.length === start) return false;
  while (body.children.length > start) body.lastElementChild.remove();
  body.insertAdjacentHTML("beforeend", blocks.join(""));
  nameButtons(body);
  return true;
}

function nameButtons(body) {
  for (const button of body.querySelectorAll(".copy-code:empty")) button.textContent = t("copy");
}

async function copyText(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    notice(t("copy_failed"));
    return;
  }
  tell(t("copied"));
  const kept = [...button.childNodes];
  button.replaceChildren(button.classList.contains("copy-code") ? t("copied") : icon("tick"));
  setTimeout(() => button.replaceChildren(...kept), 1500);
}

root.addEventListener("click", (event) => {
  const button = event.target.closest?.(".copy-code");
  if (button) copyText(button.closest("figure").querySelector("code").textContent, button);
});
