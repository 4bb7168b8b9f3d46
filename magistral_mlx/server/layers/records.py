"""What is written down of a request: one line of JSON, without what was asked or answered."""

import json
import logging
import time
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.types import Scope

from magistral_mlx.events import Finished

logger = logging.getLogger("magistral_mlx.server.requests")


@dataclass(slots=True)
class RequestRecord:
    """Filled in while a request is served. is_page: it is the page's own, not the API's."""

    id: str
    method: str
    path: str
    client: str = "-"
    status: int = 0
    is_page: bool = False
    model_work: dict[str, object] = field(default_factory=dict)
    user: str | None = None
    prompt: object = None
    started: float = field(default_factory=time.perf_counter)

    def add_work(self, ends: list[Finished], reasons: list[str]) -> None:
        """What the answers took that came to an end, and why each of them ended."""
        first = ends[0] if ends else None
        self.model_work |= {
            "prompt_tokens": first.usage.prompt_tokens if first else None,
            "cached_tokens": first.usage.cached_tokens if first else None,
            "reasoning_tokens": sum(end.usage.reasoning_tokens for end in ends),
            "completion_tokens": sum(end.usage.completion_tokens for end in ends),
            "first_token_ms": _milliseconds(
                first.timings.seconds_to_first_token if first else None
            ),
            "reason": ",".join(reasons),
        }

    def write(self) -> None:
        """Write the line."""
        line = {
            "id": self.id,
            "method": self.method,
            "path": self.path,
            "client": self.client,
            "status": self.status,
            "ms": _milliseconds(time.perf_counter() - self.started),
        }
        asked = {"user": self.user, "prompt": self.prompt}
        told = {name: value for name, value in asked.items() if value is not None}
        # The page asks for its news several times a second.
        quiet = self.is_page and self.status < 400
        text = json.dumps(line | self.model_work | told, ensure_ascii=False)
        logger.log(logging.DEBUG if quiet else logging.INFO, text)


def record_of(request: Request) -> RequestRecord:
    """The record that the outermost middleware has made for a request."""
    return scope_record(request.scope)


def scope_record(scope: Scope) -> RequestRecord:
    """The same by the ASGI scope."""
    record = scope["state"]["record"]
    assert isinstance(record, RequestRecord)
    return record


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 1)
