// Calls of the Python functions that the page may use.

/** @import { Calls, ServerFunctions } from "./types" */
import { notice } from "./notices.js";
import { t } from "./words.js";

/** What the server refused, in one sentence for the user. */
export class Refusal extends Error {}

/** @type {ServerFunctions} */
let functions;

/** @param {ServerFunctions} given by Gradio */
export function connect(given) {
  functions = given;
}

/**
 * Raises Refusal, or another error when the server cannot be reached.
 * @template {keyof Calls} Name
 * @param {Name} name
 * @param {Calls[Name]["form"]} form
 * @returns {Promise<Calls[Name]["result"]>}
 */
export async function ask(name, form) {
  const answer = await functions[name](form);
  if (answer?.error) throw new Refusal(answer.error);
  if (!answer?.ok) throw new Error("The server does not answer");
  return answer.ok;
}

/**
 * The same; what goes wrong is shown to the user, and the result is undefined.
 * @template {keyof Calls} Name
 * @param {Name} name
 * @param {Calls[Name]["form"]} form
 * @returns {Promise<Calls[Name]["result"] | undefined>}
 */
export async function attempt(name, form) {
  try {
    return await ask(name, form);
  } catch (error) {
    notice(problem(error));
    return undefined;
  }
}

/**
 * What went wrong, in words for the user.
 * @param {unknown} error
 */
export function problem(error) {
  return error instanceof Refusal ? error.message : t("server_gone");
}
