"""Our side: the engine as `open_model` starts it, but without a limit of memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.engine.engine import Engine
from magistral_mlx.kv.disk.store import KVStore
from magistral_mlx.text.tokenizer import Tokenizer


@contextmanager
def our_engine(
    folder: Path, *, prefix_bytes: int = 0, kv_store: KVStore | None = None
) -> Iterator[Engine]:
    """With its steps timed, and whatever window the model has."""
    checkpoint = open_checkpoint(folder)
    engine = Engine(
        checkpoint,
        Tokenizer.open(checkpoint.tokenizer_file),
        window=checkpoint.config.max_position_embeddings,
        prefix_bytes=prefix_bytes,
        kv_store=kv_store,
        costs_folder=folder.parent,
    )
    try:
        yield engine
    finally:
        engine.close()
