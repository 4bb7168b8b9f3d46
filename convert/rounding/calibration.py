"""Calibration: the text, the memory it needs, and the walk through the converted weights."""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import mlx.core as mx
import numpy as np

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.quantization import Quantization
from magistral_mlx.checkpoint.safetensors_header import TensorEntry
from magistral_mlx.convert.rounding.feedback import MOST_COLUMNS, Feedback
from magistral_mlx.convert.rounding.layer_walk import Load, WalkStage, walk
from magistral_mlx.convert.rounding.stored_form import dequantise, stored_names
from magistral_mlx.convert.sources.read_ahead import BLOCK_BYTES
from magistral_mlx.convert.sources.source import Source, SourceTensor, as_array
from magistral_mlx.convert.sources.tensors import local_tensor
from magistral_mlx.convert.vocabulary.open_vocabulary import Vocabulary
from magistral_mlx.device import compute_dtype
from magistral_mlx.errors import CheckpointError

PIECE = 512
"""Tokens of a piece of text. Each piece is an independent sequence."""

MOST_PIECES = 64

CHARACTERS = 32
"""Characters that are read per token: no text has more to a token."""

BASE_BYTES = 400 << 20
"""Memory of the program and of a conversion without calibration."""

Places = Mapping[str, tuple[Path, TensorEntry]]
Pieces = tuple[tuple[int, ...], ...]


def calibration_pieces(text: Path, vocabulary: Vocabulary, *, most: int = MOST_PIECES) -> Pieces:
    """The beginning of a text, as pieces of ids. Raises CheckpointError when it cannot be used."""
    try:
        with text.open(encoding="utf-8") as file:
            written = file.read(most * PIECE * CHARACTERS)
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"{text} cannot be read as UTF-8 text ({error}): give a text like those that the model "
            "will read and write."
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
    """An upper bound of the memory of a calibrated conversion; layers do not add to it."""
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
    """One line: the tokens of the text, and the most memory that the conversion takes."""
    tokens, nbytes = sum(map(len, pieces)), calibration_bytes(config, len(pieces))
    return f"Calibrating on {tokens:,} tokens, in at most {nbytes / 1e9:.1f} GB of memory."


class Calibrator:
    """The input of each module, from a walk through the weights converted so far.

    A resumed run walks again over the tensors that earlier runs finished, which is far quicker
    than converting them.
    """

    def __init__(self, config: ModelConfig, pieces: Pieces, places: Places) -> None:
        """places: the output's tensors. Those before a module must be written when its feedback
        is requested.
        """
        self._stages = self._walk(config, pieces, places)
        self._stage: WalkStage | None = None
        self._feedback: Feedback | None = None

    def feedback(self, module: str) -> Feedback | None:
        """The feedback for rounding a module; None for the embedding, whose input is token ids."""
        if module == "model.embed_tokens":
            return None
        while self._stage is None or module not in self._stage.modules:
            self._stage, self._feedback = next(self._stages), None
        if self._feedback is None:
            self._feedback = Feedback(self._stage.inputs())
        return self._feedback

    @staticmethod
    def _walk(config: ModelConfig, pieces: Pieces, places: Places) -> Iterator[WalkStage]:
        # A generator: the embedding is read when the first module asks.
        embedded = embedded_pieces(config, pieces, places)
        yield from walk(config, embedded, load_stored(config, places))


def load_stored(config: ModelConfig, places: Places) -> Load:
    """Load tensors of a converted folder, dequantised to the compute type."""
    dtype = compute_dtype(config.dtype)

    def load(name: str) -> mx.array:
        is_packed = places[name][1].dtype == "U32"
        module = name.removesuffix(".weight")
        quantization = config.quantization_of(module) if is_packed else None
        tensors = [local_tensor(part, places[part]) for part in stored_names(name, quantization)]
        parts = (as_array(part.read_rows(0, part.shape[0]), part.dtype) for part in tensors)
        return dequantise(tuple(parts), quantization).astype(dtype)

    return load


def load_source(source: Source) -> Load:
    """Load tensors of a source, in the compute type."""
    dtype = compute_dtype(source.config.dtype)
    tensors = {tensor.name: tensor for tensor in source.tensors}

    def load(name: str) -> mx.array:
        tensor = tensors[name]
        return as_array(tensor.read_rows(0, tensor.shape[0]), tensor.dtype).astype(dtype)

    return load


def embedded_pieces(
    config: ModelConfig, pieces: Sequence[Sequence[int]], places: Places
) -> list[mx.array]:
    """Embed every piece, (tokens, hidden), with the embedding of a converted folder."""
    name = "model.embed_tokens.weight"
    quantization = config.quantization_of("model.embed_tokens")
    tensors = [local_tensor(part, places[part]) for part in stored_names(name, quantization)]
    return embed(pieces, tensors, quantization, compute_dtype(config.dtype))


def embed(
    pieces: Sequence[Sequence[int]],
    tensors: Sequence[SourceTensor],
    quantization: Quantization | None,
    dtype: mx.Dtype,
) -> list[mx.array]:
    """Embed every piece, (tokens, hidden). Each distinct token's row is read once."""
    tokens = sorted({token for piece in pieces for token in piece})

    def rows(tensor: SourceTensor) -> mx.array:
        found = [tensor.read_rows(token, token + 1) for token in tokens]
        return as_array(np.concatenate(found), tensor.dtype)

    table = dequantise(tuple(map(rows, tensors)), quantization).astype(dtype)
    places = {token: place for place, token in enumerate(tokens)}
    embedded = [table[mx.array([places[token] for token in piece])] for piece in pieces]
    mx.eval(embedded)
    return embedded
