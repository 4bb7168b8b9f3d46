"""Reading tensors block by block in threads, ahead of the conversion."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from magistral_mlx.convert.sources.source import Rows, SourceTensor, row_bytes

BLOCK_BYTES = 16 << 20
"""Source bytes of a block. Rows are quantised independently: the size changes no result."""


@dataclass(frozen=True, slots=True)
class RowBlock:
    """Rows [start, stop) of a tensor."""

    tensor: SourceTensor
    start: int
    stop: int

    @property
    def nbytes(self) -> int:
        return (self.stop - self.start) * row_bytes(self.tensor)

    @property
    def is_last(self) -> bool:
        return self.stop == self.tensor.shape[0]

    def read(self) -> Rows:
        """Read the rows. Raises CheckpointError when they cannot be read."""
        return self.tensor.read_rows(self.start, self.stop)


def read_ahead(tensors: Iterable[SourceTensor], *, readers: int) -> Iterator[tuple[RowBlock, Rows]]:
    """Yield every block of the tensors in order, while `readers` threads read the next ones.

    Memory holds `readers` blocks and the yielded one. Raises what `read_rows` raises.
    """
    blocks = _blocks(tensors)
    with ThreadPoolExecutor(readers, thread_name_prefix="read-ahead") as threads:
        waiting: deque[tuple[RowBlock, Future[Rows]]] = deque()
        try:
            for block in islice(blocks, readers):
                waiting.append((block, threads.submit(block.read)))
            while waiting:
                block, reading = waiting.popleft()
                rows = reading.result()
                for following in islice(blocks, 1):
                    waiting.append((following, threads.submit(following.read)))
                yield block, rows
        finally:
            for _, reading in waiting:
                reading.cancel()


def _blocks(tensors: Iterable[SourceTensor]) -> Iterator[RowBlock]:
    for tensor in tensors:
        step = max(1, BLOCK_BYTES // row_bytes(tensor))
        for start in range(0, tensor.shape[0], step):
            yield RowBlock(tensor, start, min(start + step, tensor.shape[0]))
