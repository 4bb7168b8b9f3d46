"""Calibrating: the text, what it needs of memory, and the walk that makes and uses the weights."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import mlx.core as mx
import numpy as np

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.safetensors_header import TensorEntry
from magistral_mlx.convert.rounding.feedback import MOST_COLUMNS, Feedback
from magistral_mlx.convert.rounding.layer_walk import Load, Stage, walk
from magistral_mlx.convert.rounding.rounder import stored_names
from magistral_mlx.convert.rounding.weight_error import dequantise
from magistral_mlx.convert.sources.read_ahead import BLOCK_BYTES
from magistral_mlx.convert.sources.source import Source, SourceTensor, as_array
from magistral_mlx.convert.sources.tensors import FileTensor
from magistral_mlx.convert.vocabulary.open_vocabulary import Vocabulary
from magistral_mlx.device import compute_dtype
from magistral_mlx.errors import CheckpointError

PIECE = 512
"""Tokens of a piece; each is run from its own beginning."""

MOST_PIECES = 64

CHARACTERS = 32
"""Read for every token that is wanted: no text has fewer tokens than that."""

BASE_BYTES = 400 << 20
"""The program itself, and what a conversion without calibration needs."""

Places = Mapping[str, tuple[Path, TensorEntry]]
Pieces = tuple[tuple[int, ...], ...]


def calibration_pieces(text: Path, vocabulary: Vocabulary, *, most: int = MOST_PIECES) -> Pieces:
    """The beginning of a text as pieces of ids. Raises CheckpointError when it cannot be used."""
    try:
        with text.open(encoding="utf-8") as file:
            written = file.read(most * PIECE * CHARACTERS)
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"{text} cannot be read as UTF-8 text ({error}): give a text file in the languages and "
            "the kind of the model's work."
        ) from error
    start = vocabulary.begin_ids
    ids = vocabulary.encode(written)
    cuts = range(0, len(ids) + 1, PIECE - len(start))
    pieces = [(*start, *ids[first:stop]) for first, stop in pairwise(cuts)][:most]
    if not pieces:
        raise CheckpointError(
            f"{text} has {len(ids)} tokens: give a text of at least {PIECE}, better {most * PIECE}."
        )
    return tuple(pieces)


def pieces_digest(pieces: Pieces) -> str:
    """SHA-256 (hex) of the ids."""
    return sha256(repr(pieces).encode()).hexdigest()


def calibration_bytes(config: ModelConfig, pieces: int) -> int:
    """The most memory that a calibrated conversion takes, whatever the number of layers."""
    item = compute_dtype(config.dtype).size
    hidden, inner = config.hidden_size, config.intermediate_size
    queries = config.num_attention_heads * config.head_dim
    widest = max(inner, hidden, queries)
    held = pieces * PIECE * (hidden + queries) * item
    matrices = 3 * hidden * inner * item + 4 * hidden * inner
    piece = PIECE * (6 * widest + 4 * config.num_attention_heads * PIECE) * 4
    part = min(MOST_COLUMNS, widest)
    sums = 4 * part * (widest + 6 * part)
    rows = 12 * 2 * BLOCK_BYTES
    return BASE_BYTES + held + matrices + piece + sums + rows


def calibration_note(config: ModelConfig, pieces: Pieces) -> str:
    """One line: the text's tokens, and the memory that a calibrated conversion stays below."""
    tokens, nbytes = sum(map(len, pieces)), calibration_bytes(config, len(pieces))
    return f"Calibrating on {tokens:,} tokens, in at most {nbytes / 1e9:.1f} GB of memory."


class Calibrator:
    """The walk through the weights that are being made: each stage's input, when it is asked for.

    Tensors that an earlier run finished are read back, so a run that goes on walks again over
    them, which is far quicker than making them.
    """

    def __init__(self, config: ModelConfig, pieces: Pieces, places: Places) -> None:
        """places: of the output; what comes before a module is there when that is asked for."""
        self._stages = _output_stages(config, pieces, places)
        self._stage: Stage | None = None
        self._feedback: Feedback | None = None

    def feedback(self, module: str) -> Feedback | None:
        """How to round a module; None for the embedding, whose input are no numbers."""
        if module == "model.embed_tokens":
            return None
        while self._stage is None or module not in self._stage.modules:
            self._stage, self._feedback = next(self._stages), None
        if self._feedback is None:
            self._feedback = Feedback(self._stage.inputs())
        return self._feedback


def _output_stages(config: ModelConfig, pieces: Pieces, places: Places) -> Iterator[Stage]:
    load = load_stored(config, places)
    yield from walk(config, embedded_pieces(config, pieces, places), load)


def load_stored(config: ModelConfig, places: Places) -> Load:
    """Tensors of a converted folder, dequantised to the type to compute in."""
    dtype = compute_dtype(config.dtype)

    def load(name: str) -> mx.array:
        return _stored(config, places, name).astype(dtype)

    return load


def load_source(source: Source) -> Load:
    """Tensors of a source, in the type to compute in."""
    dtype = compute_dtype(source.config.dtype)
    tensors = {tensor.name: tensor for tensor in source.tensors}

    def load(name: str) -> mx.array:
        tensor = tensors[name]
        return as_array(tensor.read_rows(0, tensor.shape[0]), tensor.dtype).astype(dtype)

    return load


def embedded_pieces(
    config: ModelConfig, pieces: Sequence[Sequence[int]], places: Places
) -> list[mx.array]:
    """The embedding's rows (tokens, hidden) of every piece, from a converted folder."""
    name = "model.embed_tokens.weight"
    quantization = config.quantization_of("model.embed_tokens")
    tensors = [FileTensor(part, *places[part]) for part in stored_names(name, quantization)]

    def rows(tokens: Sequence[int]) -> mx.array:
        return dequantise(tuple(gathered(tensor, tokens) for tensor in tensors), quantization)

    return embed(pieces, rows, compute_dtype(config.dtype))


def embed(
    pieces: Sequence[Sequence[int]], rows: Callable[[Sequence[int]], mx.array], dtype: mx.Dtype
) -> list[mx.array]:
    """Look up all pieces; every token's row is read once."""
    tokens = sorted({token for piece in pieces for token in piece})
    table = rows(tokens).astype(dtype)
    places = {token: place for place, token in enumerate(tokens)}
    embedded = [table[mx.array([places[token] for token in piece])] for piece in pieces]
    mx.eval(embedded)
    return embedded


def gathered(tensor: SourceTensor, tokens: Sequence[int]) -> mx.array:
    """Some rows of a tensor, in its own type."""
    rows = np.concatenate([tensor.read_rows(token, token + 1) for token in tokens])
    return as_array(rows, tensor.dtype)


def _stored(config: ModelConfig, places: Places, name: str) -> mx.array:
    quantization = config.quantization_of(name.removesuffix(".weight"))
    if places[name][1].dtype != "U32":
        quantization = None
    tensors = [FileTensor(part, *places[part]) for part in stored_names(name, quantization)]
    parts = tuple(as_array(part.read_rows(0, part.shape[0]), part.dtype) for part in tensors)
    return dequantise(parts, quantization)
