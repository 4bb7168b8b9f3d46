/**
 * What the page's server returns, as Python writes it (`app/panels/*.py`, `app/runs/streaming.py`),
 * and the attributes of elements. For the type check alone: browsers never load this file.
 */

/** What each function of the server takes and returns. */
export interface Calls {
  begin: Call<{ languages: string }, Begun>;
  save_settings: Call<Settings, Settings>;
  reset_settings: Call<Nothing, Settings>;
  search: Call<{ text: string }, { conversations: Listed[] }>;
  rename: Call<Chosen & { title: string }, Listed>;
  pin: Call<Chosen & { pinned: boolean }, Listed>;
  delete_conversation: Call<Chosen, Nothing>;
  export: Call<Chosen & { form: "markdown" | "json" }, { name: string; text: string }>;
  import_file: Call<{ data: string }, Listed>;
  attach: Call<{ name: string; data: string }, AttachedFile>;
  count: Call<Draft, TokenCount>;
  send: Call<Draft & { conversation: string | null; chains: number }, Sent>;
  edit: Call<ChosenMessage & { text: string }, Sent>;
  regenerate: Call<ChosenMessage, Chosen>;
  show: Call<Chosen, Conversation>;
  show_branch: Call<ChosenMessage, Conversation>;
  answer: Call<ChosenMessage, StoredChain>;
  watch: Call<Chosen & { version: number }, { patch: RunPatch | null }>;
  stop: Call<Chosen, Nothing>;
  answer_now: Call<Chosen & { chain: number }, Nothing>;
  models: Call<Nothing, { models: ModelEntry[] }>;
  status: Call<Nothing, Status>;
  open_model: Call<{ name: string; stop_runs: boolean }, ModelState>;
  convert: Call<{ source: string; bits: number }, Conversion>;
  cancel_conversion: Call<Nothing, Conversion>;
  what_fits: Call<Nothing, { fits: Fit[] }>;
}

/** The object that Gradio gives to the page's script. */
export type ServerFunctions = {
  [Name in keyof Calls]: (
    form: Calls[Name]["form"],
  ) => Promise<{ ok?: Calls[Name]["result"]; error?: string } | null>;
};

interface Call<Form, Result> {
  form: Form;
  result: Result;
}

type Nothing = Record<string, never>;

interface Chosen {
  conversation: string;
}

interface ChosenMessage {
  message: string;
}

export interface Begun {
  texts: Record<string, string>;
  examples: string[];
  language: string;
  rightToLeft: boolean;
  languages: Record<string, string>;
  settings: Settings;
  defaults: Settings;
}

export interface Settings {
  temperature: number;
  top_p: number;
  min_p: number;
  seed: number | null;
  max_tokens: number | null;
  thinking_budget: number | null;
  reasoning: "auto" | "on" | "off";
  history: "keep" | "drop";
  system: string;
  language: string;
  chains: number;
}

/** A conversation in the sidebar; `updated` in seconds since 1970. */
export interface Listed {
  id: string;
  title: string;
  pinned: boolean;
  updated: number;
}

export interface AttachedFile {
  name: string;
  text: string;
  tokens: number;
}

export interface Draft {
  parent: string | null;
  text: string;
  files: AttachedFile[];
}

export interface TokenCount {
  tokens: number;
  window: number;
}

/** A message that was accepted, or the numbers that show why it does not fit. */
export type Sent = { refused: TokenCount } | { refused?: undefined; conversation: string; question: string };

/** `running`: the id of the question that is being answered; `id`: null for a new conversation. */
export interface Conversation {
  id: string | null;
  title: string;
  exchanges: Exchange[];
  running: string | null;
}

export interface Exchange {
  question: Question;
  reply: StoredReply | null;
}

export interface Question {
  id: string;
  text: string;
  attachments: { name: string; tokens: number }[];
  siblings: Siblings;
}

/** Place among the messages that could be here, and the ids of the neighbours. */
export interface Siblings {
  index: number;
  count: number;
  previous: string | null;
  next: string | null;
}

/** `agree`: indices of the chains that agree, where there are several. */
export interface StoredReply {
  message: string;
  chains: StoredChain[];
  siblings: Siblings;
  agree: number[];
}

/** `reasoning` and `answer` are HTML; `text` is the answer as the model wrote it. */
export interface StoredChain {
  message: string;
  reasoning: string;
  answer: string;
  text: string;
  ending: string | null;
  figures: Figures | null;
}

export interface Figures {
  prompt_tokens: number;
  cached_tokens: number;
  reasoning_tokens: number;
  seconds_to_first_token: number | null;
  reasoning_seconds: number | null;
  tokens_per_second: number | null;
  thinking_budget: number | null;
  reasoning_closed_by_force: boolean;
  error: string | null;
}

/** What changed in a run since the version that was asked with. */
export interface RunPatch {
  question: string;
  version: number;
  state: ChainState;
  ended: boolean;
  thinking_budget: number | null;
  chains: ChainPatch[];
}

export type ChainState = "queued" | "prefill" | "reasoning" | "answer" | "done" | "failed" | "stopped";

export interface ChainPatch {
  message: string;
  state: ChainState;
  reasoning: TextPatch;
  answer: TextPatch;
  prefill_done: number;
  prefill_total: number;
  cached_tokens: number | null;
  tokens: number;
  reasoning_tokens: number;
  seconds_to_first_token: number | null;
  tokens_per_second: number | null;
  reasoning_seconds: number;
  error: string | null;
}

/** `blocks`, as HTML, replace all blocks from index `start` on. */
export interface TextPatch {
  start: number;
  blocks: string[];
}

export interface Status {
  model: ModelState;
  memory: Memory | null;
  conversion: Conversion;
}

export interface ModelState {
  state: "idle" | "opening" | "ready" | "failed";
  choice: string | null;
  name: string | null;
  seconds: number;
  message: string | null;
}

/** In bytes. */
export interface Memory {
  limit: number;
  weights: number;
  step: number;
  kvLimit: number | null;
  kvRunning: number;
  kvStored: number;
}

/** `done` and `total` in bytes. */
export interface Conversion {
  state: "idle" | "running" | "done" | "failed" | "cancelled";
  source: string | null;
  done: number;
  total: number;
  tensor: string | null;
  bytesPerSecond: number | null;
  secondsLeft: number | null;
  folder: string | null;
  message: string | null;
}

export interface ModelEntry {
  choice: string;
  name: string;
  nbytes: number;
  bits: number | null;
}

/** A Mac of that memory, in bytes; `kv` and `left` are null where the model does not fit. */
export type Fit = { memory: number; bits: number; window: number; weights: number } & (
  | { fits: true; kv: number; left: number }
  | { fits: false; kv: null; left: null }
);

/** The listeners that `el` adds, and the attributes that it sets. */
export interface Attributes {
  onclick?: ((event: MouseEvent & { currentTarget: HTMLElement }) => unknown) | undefined;
  oninput?: ((event: Event & { target: HTMLInputElement }) => unknown) | undefined;
  onsubmit?: ((event: SubmitEvent) => unknown) | undefined;
  [attribute: string]: unknown;
}
