// Running answers: each is followed until it ends, also while another conversation is shown.
const followed = new Map();

class LiveReply {
  constructor(question) {
    this.question = question;
    this.live = true;
    this.chains = [];
    this.ended = false;
    this.element = el("div", { class: "reply" });
  }

  patch(patch) {
    while (this.chains.length < patch.chains.length) this.chains.push(new Chain(this.chains.length));
    if (!this.element.children.length) this.arrange();
    this.ended = patch.ended;
    patch.chains.forEach((chain, index) => this.chains[index].patch(chain, patch.thinking_budget));
  }

  arrange() {
    const [first] = this.chains;
    const single = this.chains.length === 1;
    this.chains.forEach((chain) => chain.open(!narrow()));
    this.element.replaceChildren(
      ...(single ? [first.reasoning, first.answer] : [chainColumns(this.chains, [])]),
    );
  }

  // The stored reply, in the elements that the reader is looking at.
  finish(reply) {
    const byId = new Map(this.chains.map((chain) => [chain.id, chain]));
    const complete = reply.chains.every((stored) => byId.has(stored.message));
    if (!complete) return storedReply(reply, true);
    const chains = reply.chains.map((stored) => {
      const chain = byId.get(stored.message);
      chain.fill(stored, { redraw: !this.ended });
      return chain;
    });
    return dressReply(reply, chains);
  }
}

async function runStarted(conversation) {
  await showConversation(conversation, { toQuestion: true });
  refreshList();
}

function follow(conversation) {
  if (followed.has(conversation)) {
    followed.get(conversation).version = 0;
    return;
  }
  const entry = { version: 0 };
  followed.set(conversation, entry);
  running.add(conversation);
  setRunning();
  watch(conversation, entry);
}

async function watch(conversation, entry) {
  let failures = 0;
  for (;;) {
    const version = entry.version;
    try {
      const { patch } = await ask("watch", { conversation, version });
      failures = 0;
      if (!patch) break;
      if (entry.version === version) {
        entry.version = patch.version;
        showPatch(conversation, patch);
      }
      if (patch.ended) break;
    } catch (error) {
      failures += 1;
      if (error instanceof Refusal || failures > 5) {
        notice(error.message);
        break;
      }
      await pause(300 * failures);
    }
  }
  followed.delete(conversation);
  running.delete(conversation);
  await runEnded(conversation);
}

function showPatch(conversation, patch) {
  if (conversation !== view.id) return;
  const shown = drawn.find((each) => each.question === patch.question)?.reply;
  if (!shown?.live) return;
  const near = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 160;
  shown.patch(patch);
  showUsed(patch);
  if (near && patch.state === "answer") scroller.scrollTop = scroller.scrollHeight;
}

async function runEnded(conversation) {
  setRunning();
  refreshList();
  refreshStatus();
  if (conversation !== view.id) return;
  const next = await attempt("show", { conversation });
  if (next && next.id === view.id) {
    drawConversation(next);
    tell(t("answer_complete"));
    countDraft();
  }
}

// Whether the conversation that is shown is being answered.
function answering() {
  return followed.has(view.id);
}

async function stopAnswer() {
  if (answering()) await attempt("stop", { conversation: view.id });
}

async function answerNow(chain) {
  if (answering()) await attempt("answer_now", { conversation: view.id, chain });
}
