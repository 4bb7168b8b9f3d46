"""What the prompt of the next turn will begin with, known as soon as an answer is complete."""

from collections.abc import Sequence

from mistral_common.protocol.instruct.tool_calls import Tool

from magistral_mlx.conversation import History, Message, Reasoning, SystemPolicy, prompt_ids
from magistral_mlx.tokenizer import Tokenizer


def next_turn_ids(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    reply: Message,
    *,
    reasoning: Reasoning,
    history: History,
    system: SystemPolicy,
    tools: Sequence[Tool] = (),
) -> list[int]:
    """Ids from the start of the next prompt up to where the user's next message begins.

    With history="drop" they are without the reply's reasoning, so they are not what is in the
    KV cache: prefilling them while the user reads spares the wait at the next turn.
    """
    turns = [*messages, reply, Message("user", "?")]
    # "on" and "off" only add to the end of a prompt, but for the system prompt of "off".
    ids = prompt_ids(
        tokenizer,
        turns,
        reasoning="off" if reasoning == "off" else "auto",
        history=history,
        system=system,
        tools=tools,
    )
    opening = tokenizer.control_id("[INST]")
    last = max(index for index, token in enumerate(ids) if token == opening)
    return ids[: last + 1]
