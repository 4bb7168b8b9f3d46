"""An open model: text in, text out."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import takewhile

from magistral_mlx.checkpoint.folder import Checkpoint
from magistral_mlx.engine.engine import Engine
from magistral_mlx.engine.request import Request
from magistral_mlx.engine.status import EngineStatus
from magistral_mlx.engine.stream import AnswerStream
from magistral_mlx.events import Finished
from magistral_mlx.memory.plan import MemoryPlan
from magistral_mlx.options import GenerationOptions
from magistral_mlx.reply import Reply, collect_reply
from magistral_mlx.text.conversation import Message, Prompt, build_prompt
from magistral_mlx.text.tokenizer import Tokenizer


class Magistral(AbstractContextManager["Magistral"]):
    """An open model. Threads may share it: requests that overlap are batched."""

    def __init__(
        self, checkpoint: Checkpoint, tokenizer: Tokenizer, engine: Engine, plan: MemoryPlan
    ) -> None:
        """Use `open_model`."""
        self.checkpoint = checkpoint
        self.tokenizer = tokenizer
        self.engine = engine
        self.plan = plan

    @property
    def name(self) -> str:
        """The name of the model's folder."""
        return self.checkpoint.folder.name

    @property
    def window(self) -> int:
        """Tokens that prompt and output may take together."""
        return self.engine.window

    def stream(
        self,
        messages: str | Sequence[Message],
        options: GenerationOptions | None = None,
    ) -> AnswerStream:
        """Events of one answer as they arrive; the last is Finished or Failed.

        Closing the stream, or leaving a `for` loop over it, cancels the answer.

        Raises RequestError, before the first event, if messages or options are refused.
        """
        chosen = options or GenerationOptions()
        turns = _turns(messages)
        return self.engine.submit(
            self.request(turns, chosen),
            lambda answer, end: self.prepare_next_turn(turns, answer, chosen, end),
        )

    def request(self, messages: Sequence[Message], options: GenerationOptions) -> Request:
        """The request for the next answer, for callers that submit it to the engine themselves.

        Raises RequestError if messages or options are refused.
        """
        prompt = _prompt(self.tokenizer, messages, options)
        return Request(
            tuple(prompt.ids),
            prompt.state,
            options=replace(options, guidance=options.grammar),
            # Without tools nobody handles a call: it is shown as text.
            tool_calls=bool(options.tools),
        )

    def raw_request(self, prompt: Sequence[int], options: GenerationOptions) -> Request:
        """A request that continues token ids; its whole output is text of the answer."""
        return Request(tuple(prompt), "answer", options, tool_calls=False)

    def generate(
        self,
        messages: str | Sequence[Message],
        options: GenerationOptions | None = None,
    ) -> Reply:
        """The whole reply at once.

        Raises:
            RequestError: messages or options are refused.
            EngineError: the engine failed during the answer.
        """
        return collect_reply(self.stream(messages, options))

    def prompt_tokens(
        self,
        messages: str | Sequence[Message],
        options: GenerationOptions | None = None,
    ) -> int:
        """Tokens of the prompt that these messages make, system prompt included."""
        return len(_prompt(self.tokenizer, _turns(messages), options or GenerationOptions()).ids)

    @property
    def status(self) -> EngineStatus:
        """What runs, what waits, and their KV."""
        return self.engine.status

    def close(self) -> None:
        """Cancel all answers and free the model's memory."""
        self.engine.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def prepare_next_turn(
        self, turns: Sequence[Message], answer: str, options: GenerationOptions, end: Finished
    ) -> None:
        """Prefill the beginning of the next prompt while the user reads the answer."""
        if options.history == "keep" or not end.usage.reasoning_tokens or turns[-1].role != "user":
            return  # the prefix cache already holds the beginning of the next prompt
        ids = next_turn_ids(self.tokenizer, [*turns, Message("assistant", answer)], options)
        self.engine.prefill_when_idle(tuple(ids), kv_precision=options.kv_precision)


def next_turn_ids(
    tokenizer: Tokenizer, turns: Sequence[Message], options: GenerationOptions
) -> list[int]:
    """Ids that the next prompt begins with, up to the user's next message.

    With history="drop" they are without the reasoning of the last reply, so the KV cache does not
    hold them yet: prefilling them while the user reads shortens the next turn.
    """
    # "on" and "off" only add tokens at the end, except that "off" changes the system prompt.
    known = replace(options, reasoning="off" if options.reasoning == "off" else "auto")
    one, other = (
        _prompt(tokenizer, [*turns, Message("user", text)], known).ids for text in ("?", "1")
    )
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return [token for token, _ in pairs]


def _prompt(tokenizer: Tokenizer, turns: Sequence[Message], options: GenerationOptions) -> Prompt:
    return build_prompt(
        tokenizer,
        turns,
        reasoning=options.reasoning,
        history=options.history,
        system=options.system,
        tools=options.tools,
    )


def _turns(messages: str | Sequence[Message]) -> Sequence[Message]:
    return [Message("user", messages)] if isinstance(messages, str) else messages
