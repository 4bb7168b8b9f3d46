"""Messages between two ranks, beside the arrays that mlx.distributed carries."""

import json
import socket
import threading
from contextlib import suppress

Message = list[object]
"""Its first item says what it is."""

LONGEST = 1_000_000
"""Bytes of a message; a step of many sequences takes some hundred."""


class Line:
    """A connection that carries JSON lists, one a line. Any thread may send, one thread reads."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        self._incoming = sock.makefile("rb")
        self._lock = threading.Lock()

    def be_patient_for(self, seconds: float | None) -> None:
        """From now on, whatever takes longer raises TimeoutError; None: nothing does."""
        self._socket.settimeout(seconds)

    def send(self, message: Message) -> None:
        """Send a message. Raises OSError when the other rank has gone."""
        data = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            self._socket.sendall(data)

    def read(self) -> Message:
        """The next message. Raises OSError when the other rank has gone, or sends anything else."""
        line = self._incoming.readline(LONGEST)
        if not line.endswith(b"\n"):
            raise ConnectionError("the connection was closed")
        try:
            message = json.loads(line)
        except ValueError as error:
            raise ConnectionError("it is not one of ours") from error
        if not isinstance(message, list) or not message:
            raise ConnectionError("it is not one of ours")
        return message

    def close(self) -> None:
        """What was sent still arrives; whoever reads is woken."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
