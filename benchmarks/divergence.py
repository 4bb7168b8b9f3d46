"""How far a converted model's next-token distributions are from the exact model's."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import mlx.core as mx

from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.convert.output.stored_model import StoredModel
from magistral_mlx.convert.rounding.calibration import embedded_pieces, load_stored
from magistral_mlx.convert.rounding.importance import EMBEDDING
from magistral_mlx.convert.rounding.layer_walk import product, walk


@dataclass(frozen=True, slots=True)
class Piece:
    """Token ids; the ones from `start` on are predicted and counted."""

    ids: list[int]
    start: int


@dataclass(frozen=True, slots=True)
class Output:
    """A model's last hidden states, piece by piece, and its head: logits are made when needed."""

    hidden: list[mx.array]
    head: mx.array


def output(stored: StoredModel, pieces: Sequence[Piece]) -> Output:
    """Run a folder's model over the pieces, one layer in memory at a time."""
    config = open_checkpoint(stored.checkpoint.folder).config
    load = load_stored(config, stored.places)
    inputs = embedded_pieces(config, [piece.ids[:-1] for piece in pieces], stored.places)
    *_, last = walk(config, inputs, load)
    wanted = [
        states[piece.start - 1 :] for states, piece in zip(last.inputs(), pieces, strict=True)
    ]
    mx.eval(wanted)
    name = EMBEDDING if config.tie_word_embeddings else "lm_head"
    return Output(wanted, load(f"{name}.weight"))


def compare(found: Output, exact: Output, pieces: Sequence[Piece]) -> tuple[float, float, float]:
    """Perplexity, KL from the exact model, and how often both have the same likeliest token."""
    loss = kl = same = 0.0
    count = 0
    for index, piece in enumerate(pieces):
        ours, theirs = (log_probabilities(model, index) for model in (found, exact))
        targets = mx.array(piece.ids[piece.start :])[:, None]
        loss -= number(mx.take_along_axis(ours, targets, axis=1).sum())
        kl += number((mx.exp(theirs) * (theirs - ours)).sum())
        same += number((mx.argmax(ours, axis=1) == mx.argmax(theirs, axis=1)).sum())
        count += len(piece.ids) - piece.start
    return math.exp(loss / count), kl / count, same / count


def log_probabilities(model: Output, index: int) -> mx.array:
    """(tokens counted, vocabulary), in float32."""
    logits = product(model.hidden[index], model.head).astype(mx.float32)
    return logits - mx.logsumexp(logits, axis=-1, keepdims=True)


def number(scalar: mx.array) -> float:
    """The Python number of an array without axes."""
    return float(cast("float", scalar.item()))
