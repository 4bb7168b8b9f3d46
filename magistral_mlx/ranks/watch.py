"""Who is still there: a rank that is gone, or has come to a standstill, is noticed in seconds.

What MLX does by itself depends on its back end and version. A collective whose partner is gone may
raise, or never return (mlx 3862, 4278), and ends with no error that a request could be given.
"""

import threading
from collections.abc import Callable, Mapping

from magistral_mlx.ranks.line import Line, Message
from magistral_mlx.ranks.roll import tell

BEAT_SECONDS = 0.5
PATIENCE = 5.0
"""Seconds without a sign of life after which a rank is lost. One whose process ends is at once."""

BEAT, BYE = "beat", "bye"


class Watch:
    """Reads the lines to other ranks on threads of its own, and gives signs of life on them."""

    def __init__(
        self,
        lines: Mapping[int, Line],
        *,
        take: Callable[[int, Message], None],
        lost: Callable[[int, str], None],
    ) -> None:
        """take: gets messages, the last of which is BYE; lost: is told who is lost, and why.

        Both are called on the reading threads.
        """
        self._lines = dict(lines)
        self._take = take
        self._lost = lost
        self._closed = threading.Event()
        for rank, line in self._lines.items():
            line.be_patient_for(PATIENCE)
            threading.Thread(
                target=self._read, args=(rank, line), name=f"magistral-rank-{rank}", daemon=True
            ).start()
        threading.Thread(target=self._beat, name="magistral-beat", daemon=True).start()

    def close(self) -> None:
        """Part: nobody who goes after this is lost."""
        self._closed.set()
        tell(self._lines.values(), [BYE])
        self.cut()

    def cut(self) -> None:
        """Leave without a word: the others lose this rank."""
        self._closed.set()
        for line in self._lines.values():
            line.close()

    def _read(self, rank: int, line: Line) -> None:
        while True:
            try:
                message = line.read()
            except OSError as error:
                if not self._closed.is_set():
                    self._lost(rank, _why(error))
                return
            if message[0] == BYE:
                self._closed.set()
            if message[0] != BEAT:
                self._take(rank, message)

    def _beat(self) -> None:
        while not self._closed.wait(BEAT_SECONDS):
            tell(self._lines.values(), [BEAT])


def _why(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return f"no sign of life for {PATIENCE:g} seconds"
    return str(error)
