"""What a caller asks of the engine, in token ids."""

from dataclasses import dataclass, field

from magistral_mlx.errors import RequestError
from magistral_mlx.options import OutputOptions
from magistral_mlx.text.reasoning import OutputState


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt and how to continue it.

    prompt: token ids, at least one.
    state: where the output begins, as `build_prompt` returns it.
    tool_calls: give tool calls as events; otherwise they are text of the answer.
    """

    prompt: tuple[int, ...]
    state: OutputState = "auto"
    options: OutputOptions = field(default_factory=OutputOptions)
    tool_calls: bool = True

    def __post_init__(self) -> None:
        if not self.prompt:
            raise RequestError("The prompt is empty: give at least one token.")


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a sequence's output and reasoning must end, in tokens of the whole sequence."""

    end: int
    reasoning_end: int


def limits(request: Request, *, window: int) -> Limits:
    """The limits of a request in a window.

    Raises RequestError when the prompt leaves no room for a token.
    """
    prompt = len(request.prompt)
    room = window - prompt
    if room < 1:
        raise RequestError(
            f"The prompt has {prompt:,} tokens and the window holds {window:,}, prompt and output "
            "together: shorten the conversation or raise --window."
        )
    options = request.options
    most = room if options.max_tokens is None else min(options.max_tokens, room)
    if options.priority == "idle":
        most = 0
    reserve = min(options.answer_reserve, room // 2)
    return Limits(end=prompt + most, reasoning_end=window - reserve)
