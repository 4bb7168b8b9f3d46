"""Responses that later requests may go on from, in memory, within a bound."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from openai.types.responses import Response

from magistral_mlx.server.errors import ApiError
from magistral_mlx.text.conversation import Message


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response, and the conversation up to it and with it."""

    body: Response
    messages: tuple[Message, ...]
    nbytes: int


class ResponseStore:
    """Keeps what was used last. What one key has stored, another does not find."""

    def __init__(self, *, limit: int) -> None:
        """limit: bytes of text."""
        self._limit = limit
        self._nbytes = 0
        self._entries: OrderedDict[tuple[str, str], StoredResponse] = OrderedDict()

    def put(self, client: str, body: Response, messages: Sequence[Message]) -> None:
        """Keep a response; the ones used longest ago go where there is no room."""
        nbytes = len(body.model_dump_json()) + sum(map(_size, messages))
        if nbytes > self._limit:
            return
        while self._nbytes + nbytes > self._limit:
            _, oldest = self._entries.popitem(last=False)
            self._nbytes -= oldest.nbytes
        self._entries[client, body.id] = StoredResponse(body, tuple(messages), nbytes)
        self._nbytes += nbytes

    def get(self, client: str, response_id: str) -> StoredResponse:
        """A stored one. Raises ApiError (404)."""
        found = self._entries.get((client, response_id))
        if found is None:
            raise ApiError(
                404,
                f"There is no response {response_id!r}, or not any more: send the whole input.",
                code="response_not_found",
            )
        self._entries.move_to_end((client, response_id))
        return found

    def delete(self, client: str, response_id: str) -> None:
        """Forget one. Raises ApiError (404)."""
        self._nbytes -= self.get(client, response_id).nbytes
        del self._entries[client, response_id]


def _size(message: Message) -> int:
    calls = sum(len(call.name) + len(call.arguments) for call in message.tool_calls)
    return 100 + len(message.content.encode()) + len((message.reasoning or "").encode()) + calls
