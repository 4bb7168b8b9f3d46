"""What callers leave for the engine's thread: messages, until it is closed."""

import queue
import threading
from dataclasses import dataclass

from magistral_mlx.engine.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Submit:
    """A new request."""

    sequence: Sequence


@dataclass(frozen=True, slots=True)
class Cancel:
    """End a request."""

    sequence: Sequence


@dataclass(frozen=True, slots=True)
class CloseReasoning:
    """Close a request's reasoning."""

    sequence: Sequence


@dataclass(frozen=True, slots=True)
class Stop:
    """A stop string has ended a request, after so many tokens of output."""

    sequence: Sequence
    tokens: int


class Forget:
    """Drop the KV of sequences that have ended."""


class Close:
    """End the thread."""


Message = Submit | Cancel | Stop | CloseReasoning | Forget | Close


class Inbox:
    """Messages in the order in which they came. Any thread may put, one thread gets."""

    def __init__(self) -> None:
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._lock = threading.Lock()  # between "is it closed?" and putting a message
        self._closed = False

    def __len__(self) -> int:
        return self._messages.qsize()

    @property
    def closed(self) -> bool:
        """Whether nothing is taken any more."""
        return self._closed

    def put(self, message: Message) -> bool:
        """Leave a message; False when it is closed, and the message is not taken."""
        with self._lock:
            if not self._closed:
                self._messages.put(message)
            return not self._closed

    def close(self) -> None:
        """Leave a last message, which ends the thread. May be called again."""
        with self._lock:
            if not self._closed:
                self._messages.put(Close())
            self._closed = True

    def get(self, *, timeout: float | None = None) -> Message | None:
        """Wait for the next message; None when none came in so many seconds."""
        try:
            return self._messages.get(timeout=timeout)
        except queue.Empty:
            return None

    def end(self) -> list[Message]:
        """The thread reads no more: close, and give what nobody has read."""
        with self._lock:
            self._closed = True
        return [self._messages.get() for _ in range(len(self))]
