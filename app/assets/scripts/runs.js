// Runs: answers in progress. Each is followed until it ends, whichever conversation is shown.

/** @import { RunPatch } from "./types" */
import { notice } from "./notices.js";
import { Refusal, ask, problem } from "./server.js";
import { Topic } from "./topic.js";

/** A run has more text or other figures. */
export const runPatched = /** @type {Topic<{ conversation: string, patch: RunPatch }>} */ (new Topic());
/** The run of that conversation has ended. */
export const runEnded = /** @type {Topic<string>} */ (new Topic());

/** @typedef {{ version: number }} Followed the version that was shown last */

/** @type {Map<string, Followed>} by conversation */
const followed = new Map();

/**
 * Whether that conversation is being answered; without one: whether any is.
 * @param {string | null} [conversation]
 */
export function isRunning(conversation) {
  if (conversation === undefined) return followed.size > 0;
  return conversation !== null && followed.has(conversation);
}

/**
 * Follows a conversation's run. If it is followed already, all of its text is announced again.
 * @param {string} conversation
 */
export function follow(conversation) {
  const already = followed.get(conversation);
  if (already) {
    already.version = 0;
    return;
  }
  const run = { version: 0 };
  followed.set(conversation, run);
  watch(conversation, run);
}

/**
 * @param {string} conversation
 * @param {Followed} run
 */
async function watch(conversation, run) {
  let failures = 0;
  for (;;) {
    const { version } = run;
    try {
      const { patch } = await ask("watch", { conversation, version });
      failures = 0;
      if (!patch) break;
      if (run.version === version) {
        run.version = patch.version;
        runPatched.announce({ conversation, patch });
      }
      if (patch.ended) break;
    } catch (error) {
      failures += 1;
      if (error instanceof Refusal || failures > 5) {
        notice(problem(error));
        break;
      }
      await pause(300 * failures);
    }
  }
  followed.delete(conversation);
  runEnded.announce(conversation);
}

/** @param {number} milliseconds */
function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
