"""Why an answer ended, in OpenAI's words and in ours."""

from typing import Literal

from magistral_mlx.events import Finished

OpenAIReason = Literal["stop", "length", "tool_calls"]


def finish_reason(end: Finished, *, called: bool) -> OpenAIReason:
    """A loop that was ended is a stop; an answer whose time was up was cut off."""
    if end.reason in ("length", "timeout"):
        return "length"
    return "tool_calls" if called else "stop"


def finish_fields(end: Finished, *, called: bool) -> dict[str, object]:
    """finish_reason, and what OpenAI has no word for where it applies.

    finish_detail: "repetition" or "timeout"; stop_reason: the stop string, as vLLM names it.
    """
    fields: dict[str, object] = {"finish_reason": finish_reason(end, called=called)}
    if end.reason in ("repetition", "timeout"):
        fields["finish_detail"] = end.reason
    if end.stop_string is not None:
        fields["stop_reason"] = end.stop_string
    if end.reasoning_closed_by_force:
        fields["reasoning_closed_by_force"] = True
    return fields
