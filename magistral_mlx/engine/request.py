"""What a caller asks of the engine, in token ids."""

from dataclasses import dataclass, field, fields

from magistral_mlx.errors import RequestError
from magistral_mlx.options import OutputOptions
from magistral_mlx.text.reasoning import OutputState


@dataclass(frozen=True, slots=True)
class Request(OutputOptions):
    """One prompt and how to go on from it.

    prompt: ids; state: where the output begins, as `build_prompt` says.
    tool_calls: tell them apart from the answer; otherwise they are text of it.
    """

    prompt: tuple[int, ...] = field(kw_only=False)
    state: OutputState = field(default="auto", kw_only=False)
    tool_calls: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        # Without arguments, super() does not find its way in a class that has slots.
        OutputOptions.__post_init__(self)
        if not self.prompt:
            raise RequestError("The prompt is empty: give at least one token.")


def make_request(prompt: tuple[int, ...], state: OutputState, options: OutputOptions) -> Request:
    """A request with the options of an answer."""
    chosen = {name.name: getattr(options, name.name) for name in fields(OutputOptions)}
    return Request(prompt, state, **chosen)


@dataclass(frozen=True, slots=True)
class Limits:
    """Where one sequence's output and reasoning end, in tokens of the whole sequence."""

    end: int
    reasoning_end: int


def limits(request: Request, *, window: int) -> Limits:
    """The limits of a request in a window.

    Raises RequestError when the prompt leaves no room for a single token.
    """
    prompt = len(request.prompt)
    room = window - prompt
    if room < 1:
        raise RequestError(
            f"The prompt has {prompt:,} tokens and the window holds {window:,}, prompt and output "
            "together: shorten the conversation or raise --window."
        )
    asked = room if request.max_tokens is None else min(request.max_tokens, room)
    if request.priority == "idle":
        asked = 0
    reserve = min(request.answer_reserve, room // 2)
    return Limits(end=prompt + asked, reasoning_end=window - reserve)
