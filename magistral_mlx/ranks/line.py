"""Connections between ranks beside mlx.distributed: messages, and signs of life.

What MLX does when a rank is gone depends on its back end and version. A collective may raise or
never return (mlx 3862, 4278), and gives no error that a request could end with. So ranks send
signs of life here, and notice within seconds when one is lost.
"""

import json
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

Message = list[object]
"""Its first item names its kind."""

LONGEST = 1_000_000
"""Most bytes of a message; a step of many sequences takes some hundred."""

BEAT_SECONDS = 0.5
PATIENCE = 5.0
"""Seconds without a sign of life after which a rank is lost. One whose process ends is at once."""

BEAT, BYE = "beat", "bye"


class Line:
    """A connection that carries JSON lists, one a line. Any thread may send, one thread reads."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        self._incoming = sock.makefile("rb")
        self._lock = threading.Lock()

    def set_timeout(self, seconds: float | None) -> None:
        """From now on, a longer wait raises TimeoutError; None: wait for ever."""
        self._socket.settimeout(seconds)

    def send(self, message: Message) -> None:
        """Send a message. Raises OSError when the other rank has gone."""
        data = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            self._socket.sendall(data)

    def read(self) -> Message:
        """The next message. Raises OSError when the other rank has gone or sends anything else."""
        line = self._incoming.readline(LONGEST)
        if not line.endswith(b"\n"):
            raise ConnectionError("the connection was closed")
        try:
            message = json.loads(line)
        except ValueError as error:
            raise ConnectionError("its message is not JSON") from error
        if not isinstance(message, list) or not message:
            raise ConnectionError("its message is not a JSON list")
        return message

    def close(self) -> None:
        """Close it: what was sent still arrives, and a waiting reader returns."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def send_all(lines: Iterable[Line], message: Message) -> None:
    """Send a message to the ranks that are still there."""
    for line in lines:
        with suppress(OSError):
            line.send(message)


class Watch:
    """Reads the lines to other ranks, and sends signs of life on them, on background threads."""

    def __init__(
        self,
        lines: Mapping[int, Line],
        *,
        take: Callable[[int, Message], None],
        lost: Callable[[int, str], None],
    ) -> None:
        """Start to watch the lines, by rank.

        take: gets a rank's messages, the last of which is BYE.
        lost: gets the number of a lost rank, and the reason.
        Both are called on the reading threads.
        """
        self._lines = dict(lines)
        self._take = take
        self._lost = lost
        self._closed = threading.Event()
        for rank, line in self._lines.items():
            line.set_timeout(PATIENCE)
            threading.Thread(
                target=self._read, args=(rank, line), name=f"magistral-rank-{rank}", daemon=True
            ).start()
        threading.Thread(target=self._beat, name="magistral-beat", daemon=True).start()

    def close(self) -> None:
        """Say goodbye: no rank that goes after this is lost."""
        self._closed.set()
        send_all(self._lines.values(), [BYE])
        self.cut()

    def cut(self) -> None:
        """Leave without a goodbye: the others lose this rank."""
        self._closed.set()
        for line in self._lines.values():
            line.close()

    def _read(self, rank: int, line: Line) -> None:
        while True:
            try:
                message = line.read()
            except OSError as error:
                if not self._closed.is_set():
                    silent = f"no sign of life for {PATIENCE:g} seconds"
                    self._lost(rank, silent if isinstance(error, TimeoutError) else str(error))
                return
            if message[0] == BYE:
                self._closed.set()
            if message[0] != BEAT:
                self._take(rank, message)

    def _beat(self) -> None:
        while not self._closed.wait(BEAT_SECONDS):
            send_all(self._lines.values(), [BEAT])
