"""Messages to the engine's thread."""

import queue
import threading
from collections.abc import Callable

from magistral_mlx.engine.sequence import Sequence


class Close:
    """End the thread."""


Message = Sequence | Callable[[], None] | Close
"""A new sequence, a function to call on the engine's thread, or the last message."""


class Inbox:
    """A queue of messages that can be closed. Any thread may put, one thread gets."""

    def __init__(self) -> None:
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._lock = threading.Lock()  # held from checking `closed` to putting a message
        self.closed = False  # whether messages are refused

    def __len__(self) -> int:
        return self._messages.qsize()

    def put(self, message: Message) -> bool:
        """Add a message. False if the inbox is closed, and the message is dropped."""
        with self._lock:
            if not self.closed:
                self._messages.put(message)
            return not self.closed

    def close(self) -> None:
        """Add Close as the last message. May be called again."""
        with self._lock:
            if not self.closed:
                self._messages.put(Close())
            self.closed = True

    def get(self, *, timeout: float | None = None) -> Message | None:
        """Wait for the next message; None after `timeout` seconds without one."""
        try:
            return self._messages.get(timeout=timeout)
        except queue.Empty:
            return None

    def end(self) -> list[Message]:
        """Close, and return the unread messages."""
        with self._lock:
            self.closed = True
        return [self._messages.get() for _ in range(len(self))]
