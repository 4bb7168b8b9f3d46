"""The body of a response of POST /v1/responses, at any stage."""

import secrets
import time
from collections.abc import Mapping, Sequence

from openai.types.responses import Response

from magistral_mlx.events import Finished
from magistral_mlx.server.errors import ApiError
from magistral_mlx.server.openai.answer_fields import timings
from magistral_mlx.server.openai.response_request import ResponseRequest
from magistral_mlx.spec import TEMPERATURE, TOP_P

Fields = Mapping[str, object]


class ResponseBody:
    """Makes bodies for one request: they repeat what was asked for."""

    def __init__(self, asked: ResponseRequest, *, model: str) -> None:
        self.id = f"resp_{secrets.token_hex(12)}"
        format_ = asked.text.format if asked.text else None
        reasoning = asked.reasoning
        self._fields: Fields = {
            "id": self.id,
            "object": "response",
            "created_at": int(time.time()),
            "model": model,
            "error": None,
            "incomplete_details": None,
            "instructions": asked.instructions,
            "metadata": asked.metadata or {},
            "previous_response_id": asked.previous_response_id,
            "max_output_tokens": asked.max_output_tokens,
            "temperature": TEMPERATURE if asked.temperature is None else asked.temperature,
            "top_p": TOP_P if asked.top_p is None else asked.top_p,
            "parallel_tool_calls": asked.parallel_tool_calls is not False,
            "tool_choice": _dumped(asked.tool_choice) or "auto",
            "tools": [_dumped(tool) for tool in asked.tools or ()],
            "text": {"format": _dumped(format_) or {"type": "text"}},
            "reasoning": {"effort": reasoning.effort if reasoning else None, "summary": None},
            "truncation": "disabled",
            "user": asked.user,
        }

    def begun(self) -> Response:
        """Before any output."""
        return self._body({"status": "in_progress", "output": []})

    def ended(self, end: Finished, items: Sequence[Fields]) -> Response:
        """With all output."""
        cut = end.reason in ("length", "timeout")
        details = {"reason": "max_output_tokens"} if cut else None
        return self._body(
            {
                "status": "incomplete" if cut else "completed",
                "incomplete_details": details,
                "output": list(items),
                "usage": _usage(end),
                "timings": timings(end),
            }
        )

    def failed(self, error: ApiError) -> Response:
        """With an error instead of the rest."""
        told = {"code": "server_error", "message": error.message}
        return self._body({"status": "failed", "error": told, "output": []})

    def _body(self, fields: Fields) -> Response:
        return Response.model_validate({**self._fields, **fields})


def _usage(end: Finished) -> Fields:
    usage = end.usage
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _dumped(value: object) -> object:
    dump = getattr(value, "model_dump", None)
    return value if dump is None else dump(mode="json", exclude_unset=True, by_alias=True)
