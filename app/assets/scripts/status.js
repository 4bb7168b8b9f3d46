// What the server is doing: the model, the memory and a conversion, asked for again and again.

/** @import { Status } from "./types" */
import { runEnded } from "./runs.js";
import { ask } from "./server.js";
import { Topic } from "./topic.js";

/** @type {Status} */
export let status = {
  model: { state: "idle", choice: null, name: null, seconds: 0, message: null },
  memory: null,
  conversion: {
    state: "idle",
    source: null,
    done: 0,
    total: 0,
    tensor: null,
    bytesPerSecond: null,
    secondsLeft: null,
    folder: null,
    message: null,
  },
};
/** Whether the server answered when it was asked last. */
export let reachable = true;

/** There is a new status. */
export const statusChanged = /** @type {Topic<{ otherModel: boolean }>} */ (new Topic());

let timer = 0;

/** Asks now, and then often while something is going on, seldom otherwise. */
export async function refreshStatus() {
  clearTimeout(timer);
  const before = status.model;
  try {
    status = await ask("status", {});
    reachable = true;
  } catch {
    reachable = false;
  }
  const { model, conversion } = status;
  statusChanged.announce({ otherModel: model.state !== before.state || model.name !== before.name });
  const busy = model.state === "opening" || conversion.state === "running";
  clearTimeout(timer);
  timer = setTimeout(refreshStatus, busy ? 500 : 10_000);
}

runEnded.listen(refreshStatus);
