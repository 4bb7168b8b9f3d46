"""Importance of columns: the mean square of what goes into them while a text runs.

A file holds one vector of float32 for every module, by mlx-lm's names.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.weight_shapes import plain_shapes
from magistral_mlx.convert.rounding.calibration import (
    Pieces,
    calibration_pieces,
    embed,
    gathered,
    load_source,
)
from magistral_mlx.convert.rounding.layer_walk import walk
from magistral_mlx.convert.rounding.progress import Progress, ProgressCallback
from magistral_mlx.convert.sources.source import Source
from magistral_mlx.convert.vocabulary.open_vocabulary import open_vocabulary
from magistral_mlx.device import compute_dtype
from magistral_mlx.errors import CheckpointError

Vector = npt.NDArray[np.float32]
Importance = Mapping[str, Vector]

EMBEDDING = "model.embed_tokens"

UNLIKELY = 0.01
"""Of a module's mean, added to every column: what the text lacks is not worth nothing."""


def write_importance(
    source: Source, text: Path, output: Path, *, on_progress: ProgressCallback | None = None
) -> int:
    """Run a text through a source's weights, layer by layer, and write the file; its tokens.

    Raises CheckpointError when the text or the output cannot be used.
    """
    vocabulary = open_vocabulary(source.tokenizer_file, vocab_size=source.config.vocab_size)
    pieces = calibration_pieces(text, vocabulary)
    found: dict[str, Vector] = {}
    for stage in walk(source.config, _embedded(source, pieces), load_source(source)):
        squares = mean_squares(stage.inputs())
        found |= dict.fromkeys(stage.modules, squares)
        if on_progress is not None:
            on_progress(Progress(len(found), len(_modules(source.config)), stage.modules[-1]))
    if source.config.tie_word_embeddings:
        # As a head it multiplies; as an embedding it is only looked up.
        found[EMBEDDING] = found.pop("lm_head")
    try:
        save_file(found, output)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{output} cannot be written ({error}): choose another file."
        ) from error
    return sum(map(len, pieces))


def read_importance(path: Path, config: ModelConfig) -> Importance:
    """A file's vectors, checked against the model. Raises CheckpointError."""
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a file of importances ({error}): make one with "
            "python -m magistral_mlx.convert importance."
        ) from error
    wanted = _modules(config)
    for module, columns in wanted.items():
        if module not in found or found[module].shape != (columns,):
            raise CheckpointError(
                f"{path} has no importance of the {columns} columns of {module}: it was made from "
                "another model."
            )
        if not np.isfinite(found[module]).all() or found[module].min() < 0:
            raise CheckpointError(f"{path}: the importance of {module} is no positive number.")
    return {module: _likely(found[module].astype(np.float32)) for module in wanted}


def importance_digest(importance: Importance) -> str:
    """SHA-256 (hex) of the vectors."""
    digest = sha256()
    for module in sorted(importance):
        digest.update(module.encode() + importance[module].tobytes())
    return digest.hexdigest()


def mean_squares(inputs: Iterable[mx.array]) -> Vector:
    """Of every column, over all pieces."""
    total, count = np.float64(0), 0
    for piece in inputs:
        numbers = np.asarray(piece.astype(mx.float32)).astype(np.float64)
        total = total + np.square(numbers).sum(axis=0)
        count += len(numbers)
    return np.asarray(total / count, dtype=np.float32)


def _likely(squares: Vector) -> Vector:
    mean = squares.mean()
    return squares / mean + np.float32(UNLIKELY) if mean > 0 else np.ones_like(squares)


def _embedded(source: Source, pieces: Pieces) -> list[mx.array]:
    """The rows of the embedding that the text has, piece by piece."""
    dtype = compute_dtype(source.config.dtype)
    return embed(pieces, partial(gathered, source.tensors[0]), dtype)


def _modules(config: ModelConfig) -> dict[str, int]:
    """Modules that have an importance, and their columns."""
    return {
        name.removesuffix(".weight"): shape[1]
        for name, shape in plain_shapes(config).items()
        if len(shape) > 1 and (config.tie_word_embeddings or name != f"{EMBEDDING}.weight")
    }
