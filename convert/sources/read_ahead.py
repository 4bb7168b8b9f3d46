"""Blocks of rows, read by threads ahead of the conversion: network, disk and device overlap."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from magistral_mlx.convert.sources.source import Rows, SourceTensor, row_bytes

BLOCK_BYTES = 16 << 20
"""Source bytes a block. Rows are quantised independently: any size, same result."""


@dataclass(frozen=True, slots=True)
class Block:
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


def read_ahead(
    tensors: Iterable[SourceTensor], *, readers: int, block_bytes: int | None = None
) -> Iterator[tuple[Block, Rows]]:
    """Every block of the tensors in order, with its rows; `readers` are being read meanwhile.

    Memory holds `readers` blocks and the one that was yielded. Raises what read_rows raises.
    """
    blocks = _blocks(tensors, block_bytes or BLOCK_BYTES)
    with ThreadPoolExecutor(readers, thread_name_prefix="read-ahead") as threads:
        waiting: deque[tuple[Block, Future[Rows]]] = deque()
        try:
            for block in islice(blocks, readers):
                waiting.append((block, threads.submit(_read, block)))
            while waiting:
                block, reading = waiting.popleft()
                rows = reading.result()
                for following in islice(blocks, 1):
                    waiting.append((following, threads.submit(_read, following)))
                yield block, rows
        finally:
            for _, reading in waiting:
                reading.cancel()


def _blocks(tensors: Iterable[SourceTensor], block_bytes: int) -> Iterator[Block]:
    for tensor in tensors:
        step = max(1, block_bytes // row_bytes(tensor))
        for start in range(0, tensor.shape[0], step):
            yield Block(tensor, start, min(start + step, tensor.shape[0]))


def _read(block: Block) -> Rows:
    return block.tensor.read_rows(block.start, block.stop)
