"""What the prompt of the next turn will begin with, known as soon as an answer is complete."""

from collections.abc import Sequence
from itertools import takewhile

from mistral_common.protocol.instruct.tool_calls import Tool

from magistral_mlx.text.conversation import History, Message, Reasoning, SystemPolicy, prompt_ids
from magistral_mlx.text.tokenizer import Tokenizer


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
    # What comes next is not known: only what two of them have in common is the beginning.
    one, other = (
        prompt_ids(
            tokenizer,
            [*messages, reply, Message("user", text)],
            # "on" and "off" only add to the end, but for the system prompt of "off".
            reasoning="off" if reasoning == "off" else "auto",
            history=history,
            system=system,
            tools=tools,
        )
        for text in ("?", "1")
    )
    return [token for token, _ in takewhile(_are_equal, zip(one, other, strict=False))]


def _are_equal(tokens: tuple[int, int]) -> bool:
    return tokens[0] == tokens[1]
