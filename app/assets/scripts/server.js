// Calls to the functions of the server that the page was given.
class Refusal extends Error {}

async function ask(name, form = {}) {
  const answer = await server[name](form);
  if (answer?.error) throw new Refusal(answer.error);
  if (!answer?.ok) throw new Error(t("server_gone"));
  return answer.ok;
}

// The same, with what goes wrong shown to the user; undefined then.
async function attempt(name, form = {}) {
  try {
    return await ask(name, form);
  } catch (error) {
    notice(error instanceof Refusal ? error.message : t("server_gone"));
    return undefined;
  }
}
