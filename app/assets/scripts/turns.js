// A conversation: its questions and the replies below them.
const turns = el("div", { class: "turns" });
const scroller = el("div", { class: "scroll", tabindex: "-1" }, turns);
let view = { id: null, title: "", exchanges: [], running: null };
let drawn = [];

function shownConversation() {
  return view.id;
}

// The message that the next question goes below.
function lastMessage() {
  const last = view.exchanges.at(-1);
  return last ? (last.reply?.message ?? last.question.id) : null;
}

function drawConversation(next) {
  const same = next.id === view.id;
  const before = same ? drawn : [];
  view = next;
  drawn = view.exchanges.map((exchange, index) => {
    const last = index === view.exchanges.length - 1;
    const key = JSON.stringify([exchange, last, view.running]);
    const kept = before[index]?.key === key ? before[index] : undefined;
    return kept ?? drawExchange(exchange, { key, last, before: before[index] });
  });
  turns.replaceChildren(...drawn.map((each) => each.element));
  showTitle(view.title);
  root.dataset.empty = String(!view.exchanges.length);
}

function drawExchange(exchange, { key, last, before }) {
  const { question, reply } = exchange;
  const runs = view.running === question.id;
  // The reply that has just been written stays where it is; only what is below it is new.
  const live = before?.reply?.live && before.question === question.id ? before.reply : undefined;
  let shown = null;
  if (runs) shown = live ?? new LiveReply(question.id);
  else if (reply && live) shown = live.finish(reply);
  else if (reply) shown = storedReply(reply, last);
  const made = el("article", { class: "exchange", "data-question": question.id });
  made.append(questionElement(question, runs, Boolean(reply)), ...(shown ? [shown.element] : []));
  return { key, element: made, question: question.id, reply: shown };
}

function questionElement(question, runs, answered) {
  const said = el("div", { class: "said", dir: "auto" }, question.text);
  const tools = el("div", { class: "tools" });
  if (question.text.length > 1200) {
    said.classList.add("long");
    tools.append(
      textButton("quiet-button", t("show_all"), (event) => {
        said.classList.add("whole");
        event.currentTarget.remove();
      }),
    );
    tools.classList.add("kept");
  }
  tools.append(...siblingButtons(question.siblings));
  if (question.siblings.count > 1) tools.classList.add("kept");
  if (!runs && !view.running) {
    tools.append(iconButton("pencil", t("edit"), () => editQuestion(question, made)));
    if (!answered) {
      tools.append(iconButton("again", t("regenerate"), () => regenerate(question.id)));
      tools.classList.add("kept");
    }
  }
  tools.append(iconButton("copy", t("copy"), (event) => copyText(question.text, event.currentTarget)));
  const made = el(
    "div",
    { class: "question", role: "group", "aria-label": t("you") },
    question.attachments.length
      ? el("div", { class: "files" }, ...question.attachments.map((file) => fileChip(file)))
      : null,
    question.text ? said : null,
    tools,
  );
  return made;
}

function siblingButtons({ index, count, previous, next }) {
  if (count < 2) return [];
  const move = (name, label, message) =>
    iconButton(name, label, () => showBranch(message), { disabled: !message || Boolean(view.running) });
  return [
    move("before", t("previous"), previous),
    el("span", { class: "place" }, `${number(index + 1)} / ${number(count)}`),
    move("after", t("next"), next),
  ];
}

function storedReply(reply, last) {
  const chains = reply.chains.map((stored) => {
    const chain = new Chain();
    chain.fill(stored);
    chain.open(last && !narrow() && reply.chains.length === 1);
    return chain;
  });
  return dressReply(reply, chains);
}

// A reply's element around its chains, with the tools below each.
function dressReply(reply, chains) {
  chains.forEach((chain) => chain.tools.replaceChildren(...replyTools(reply, chain)));
  const made =
    chains.length === 1
      ? el("div", { class: "reply" }, chains[0].reasoning, chains[0].answer)
      : el("div", { class: "reply" }, voteElement(reply, chains), chainColumns(chains, reply.agree));
  return { element: made, chains, live: false };
}

function chainColumns(chains, agree) {
  return el(
    "div",
    { class: "chains" },
    ...chains.map((chain, index) =>
      el(
        "section",
        { class: "chain", "data-agrees": String(agree.includes(index)) },
        el(
          "h3",
          {},
          t("chain", { number: number(index + 1) }),
          agree.includes(index) ? el("span", { class: "badge" }, t("majority")) : null,
        ),
        chain.reasoning,
        chain.answer,
      ),
    ),
  );
}

function voteElement(reply, chains) {
  if (!reply.agree.length) return el("div", { class: "vote" }, t("no_majority"));
  const text = t("agree", { count: number(reply.agree.length), total: number(chains.length) });
  return el("div", { class: "vote" }, el("strong", {}, text));
}

function replyTools(reply, chain) {
  const made = [
    iconButton("copy", t("copy"), (event) => copyText(chain.text, event.currentTarget)),
    iconButton("again", t("regenerate"), () => regenerate(chain.id)),
    ...siblingButtons(reply.siblings),
  ];
  const other = reply.siblings.previous ?? reply.siblings.next;
  if (other && reply.chains.length === 1) {
    made.push(iconButton("columns", t("side_by_side"), () => sideBySide(reply, other)));
  }
  return made;
}

// Two answers beside each other, in place of the one.
async function sideBySide(reply, other) {
  const second = await attempt("answer", { message: other });
  if (!second) return;
  const place = drawn.find((each) => each.reply?.chains.some((chain) => chain.id === reply.message));
  const later = !reply.siblings.previous;
  const stored = later ? [reply.chains[0], second] : [second, reply.chains[0]];
  const pair = stored.map((each) => {
    const chain = new Chain();
    chain.fill(each);
    chain.open(false);
    chain.tools.replaceChildren(
      iconButton("copy", t("copy"), (event) => copyText(chain.text, event.currentTarget)),
      textButton("quiet-button", t("keep_this"), () => showBranch(each.message)),
    );
    return chain;
  });
  const columns = chainColumns(pair, []);
  const first = reply.siblings.index + (later ? 1 : 0);
  columns.querySelectorAll("h3").forEach((heading, index) => {
    heading.textContent = t("version", { number: number(first + index) });
  });
  place.reply.element.replaceChildren(columns);
  place.key = "";
}

function editQuestion(question, place) {
  const input = el("textarea", { class: "control", dir: "auto", "aria-label": t("edit") });
  input.value = question.text;
  const done = () => place.replaceWith(questionElement(question, false, true));
  const send = async () => {
    const sent = await attempt("edit", { message: question.id, text: input.value });
    if (sent?.refused) notice(doesNotFit(sent.refused));
    else if (sent) await runStarted(sent.conversation);
  };
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape") done();
    else if (sends(event)) send();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  place.replaceChildren(
    input,
    el(
      "div",
      { class: "actions tools kept" },
      textButton("plain-button", t("cancel"), done),
      textButton("strong-button", t("resend"), send),
    ),
  );
  place.style.width = "100%";
  input.style.minHeight = `${Math.min(320, input.scrollHeight + 12)}px`;
  input.focus();
}

async function regenerate(message) {
  const started = await attempt("regenerate", { message });
  if (started) await runStarted(started.conversation);
}

async function showBranch(message) {
  const next = await attempt("show_branch", { message });
  if (next) drawConversation(next);
}
