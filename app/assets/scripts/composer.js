// Where the user writes, and what goes along with it.
const draft = el("textarea", { id: "draft", rows: "1", dir: "auto" });
const sendButton = el("button", { type: "button", class: "send", onclick: () => sendOrStop() });
const refusal = el("div", { class: "refusal", role: "alert", hidden: true });
const estimate = el("span", { class: "estimate" });
const chainChoice = el("select", {});
const examples = el("div", { class: "examples" });
const greeting = el("div", { class: "greeting" });
let counting = 0;

function composer() {
  draft.placeholder = t("ask");
  draft.setAttribute("aria-label", t("ask"));
  draft.addEventListener("input", draftChanged);
  draft.addEventListener("keydown", (event) => {
    if (!sends(event)) return;
    event.preventDefault();
    if (!answering()) send();
  });
  chainChoice.setAttribute("aria-label", t("parallel_thinking"));
  chainChoice.title = t("parallel_help");
  chainChoice.addEventListener("change", async () => {
    const chains = Number(chainChoice.value);
    settings = (await attempt("save_settings", { ...settings, chains })) ?? settings;
  });
  for (let k = 1; k <= 8; k += 1) {
    chainChoice.append(el("option", { value: k }, k === 1 ? t("one_chain") : t("chains", { count: number(k) })));
  }
  chainChoice.value = String(settings.chains);
  const box = el(
    "div",
    { class: "composer" },
    fileRow,
    refusal,
    draft,
    el(
      "div",
      { class: "row" },
      iconButton("clip", t("attach"), pickFiles),
      el("span", { class: "choice" }, chainChoice, icon("down")),
      el("span", { class: "space" }),
      estimate,
      sendButton,
    ),
  );
  acceptDrops(box);
  return el("div", { class: "dock" }, el("div", {}, greeting, box, advice, examples));
}

// Enter sends; Shift+Enter does not, nor does the Enter that ends the composing of a word.
function sends(event) {
  return event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229;
}

function drawGreeting(texts) {
  greeting.replaceChildren(el("h2", {}, t("greeting")), el("p", {}, t("greeting_help")));
  examples.replaceChildren(
    ...texts.map((text) =>
      textButton("example", text, () => {
        draft.value = text;
        draftChanged();
        send();
      }, { dir: "auto" }),
    ),
  );
}

function draftChanged() {
  draft.style.height = "auto";
  draft.style.height = `${draft.scrollHeight}px`;
  refusal.hidden = true;
  setRunning();
  clearTimeout(counting);
  counting = setTimeout(countDraft, 350);
}

// Tokens that the conversation takes with the draft, before it is sent.
async function countDraft() {
  if (modelState.state !== "ready" || answering()) return;
  const text = draft.value;
  const form = { parent: lastMessage(), text, files: sentFiles() };
  try {
    const { tokens, window: room } = await ask("count", form);
    if (text === draft.value) showWindow(tokens, room, Boolean(text || form.files.length));
  } catch {
    estimate.textContent = "";
  }
}

function setRunning() {
  const busy = answering();
  const empty = !draft.value.trim() && !attached.length;
  root.dataset.busy = String(busy);
  sendButton.dataset.does = busy ? "stop" : "send";
  sendButton.replaceChildren(icon(busy ? "stop" : "up"));
  const label = busy ? t("stop") : t("send");
  sendButton.setAttribute("aria-label", label);
  sendButton.title = label;
  sendButton.disabled = !busy && (empty || modelState.state !== "ready");
  greeting.hidden = Boolean(view.exchanges.length);
  examples.hidden = Boolean(view.exchanges.length) || modelState.state !== "ready";
}

function sendOrStop() {
  if (answering()) stopAnswer();
  else send();
}

async function send() {
  const text = draft.value;
  if ((!text.trim() && !attached.length) || sendButton.disabled) return;
  sendButton.disabled = true;
  refusal.hidden = true;
  const form = {
    conversation: view.id,
    parent: lastMessage(),
    text,
    files: sentFiles(),
    chains: Number(chainChoice.value),
  };
  try {
    const sent = await ask("send", form);
    if (sent.refused) refuse(doesNotFit(sent.refused));
    else await messageSent(sent.conversation);
  } catch (error) {
    refuse(error instanceof Refusal ? error.message : t("server_gone"));
  }
  setRunning();
}

// Only what has been sent is taken out of the box: a message that is refused stays there.
async function messageSent(conversation) {
  draft.value = "";
  clearFiles();
  draftChanged();
  await runStarted(conversation);
}

function refuse(text) {
  refusal.textContent = text;
  refusal.hidden = false;
}

function doesNotFit({ tokens, window: room }) {
  return t("does_not_fit", { tokens: number(tokens), window: number(room) });
}
