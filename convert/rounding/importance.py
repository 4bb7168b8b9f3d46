"""Importance of a matrix's columns: the mean square of their inputs while a text runs.

A file has one float32 vector for every module, by mlx-lm's names.
"""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.weight_shapes import plain_shapes
from magistral_mlx.convert.rounding.calibration import calibration_pieces, embed, load_source
from magistral_mlx.convert.rounding.layer_walk import walk
from magistral_mlx.convert.sources.source import Source
from magistral_mlx.convert.vocabulary.open_vocabulary import open_vocabulary
from magistral_mlx.device import compute_dtype
from magistral_mlx.errors import CheckpointError

Vector = npt.NDArray[np.float32]
Importance = Mapping[str, Vector]

EMBEDDING = "model.embed_tokens"

UNLIKELY = 0.01
"""Fraction of a module's mean that is added to every column: inputs that the text lacks count."""


def write_importance(source: Source, text: Path, output: Path) -> int:
    """Run a text through a source's weights, layer by layer, and write the file.

    Returns the number of tokens. Raises CheckpointError when the text cannot be read or the output
    not written.
    """
    vocabulary = open_vocabulary(source.tokenizer_file, vocab_size=source.config.vocab_size)
    pieces = calibration_pieces(text, vocabulary)
    found: dict[str, Vector] = {}
    dtype = compute_dtype(source.config.dtype)
    embedded = embed(pieces, source.tensors[:1], None, dtype)
    for stage in walk(source.config, embedded, load_source(source)):
        found |= dict.fromkeys(stage.modules, mean_squares(stage.inputs()))
    if source.config.tie_word_embeddings:
        # The head multiplies inputs; the embedding is only looked up.
        found[EMBEDDING] = found.pop("lm_head")
    try:
        save_file(found, output)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{output} cannot be written ({error}): choose another file."
        ) from error
    return sum(map(len, pieces))


def read_importance(path: Path, config: ModelConfig) -> Importance:
    """Read a file and check it against the model. Raises CheckpointError when it does not fit."""
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} cannot be read as importances ({error}): make a file with "
            "python -m magistral_mlx.convert importance."
        ) from error
    wanted = {
        name.removesuffix(".weight"): shape[1]
        for name, shape in plain_shapes(config).items()
        if len(shape) > 1 and (config.tie_word_embeddings or name != f"{EMBEDDING}.weight")
    }
    for module, columns in wanted.items():
        if module not in found or found[module].shape != (columns,):
            raise CheckpointError(
                f"{path} has no importance of the {columns} columns of {module}: it was made from "
                "another model."
            )
        if not np.isfinite(found[module]).all() or found[module].min() < 0:
            raise CheckpointError(
                f"{path}: the importance of {module} is negative or not finite: make it again."
            )
    return {module: _likely(found[module].astype(np.float32)) for module in wanted}


def importance_digest(importance: Importance) -> str:
    """SHA-256 (hex) of the vectors."""
    digest = sha256()
    for module in sorted(importance):
        digest.update(module.encode() + importance[module].tobytes())
    return digest.hexdigest()


def mean_squares(inputs: Iterable[mx.array]) -> Vector:
    """The mean square of every column, over all pieces (tokens, columns)."""
    total, count = np.float64(0), 0
    for piece in inputs:
        numbers = np.asarray(piece.astype(mx.float32)).astype(np.float64)
        total = total + np.square(numbers).sum(axis=0)
        count += len(numbers)
    return np.asarray(total / count, dtype=np.float32)


def _likely(squares: Vector) -> Vector:
    mean = squares.mean()
    return squares / mean + np.float32(UNLIKELY) if mean > 0 else np.ones_like(squares)
