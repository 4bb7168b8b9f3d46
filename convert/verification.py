"""Checks of a converted folder: shapes, checksums, token ids, a short text, and its source."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import mlx.core as mx

from magistral_mlx.checkpoint.folder import Checkpoint
from magistral_mlx.convert.output.manifest import StoredModel, open_stored
from magistral_mlx.convert.output.model_files import file_digest
from magistral_mlx.convert.output.shards import wrong_tensors
from magistral_mlx.convert.rounding.stored_form import (
    ErrorMeter,
    WeightError,
    stored_as,
    stored_names,
)
from magistral_mlx.convert.sources.read_ahead import read_ahead
from magistral_mlx.convert.sources.source import Source, as_array
from magistral_mlx.convert.sources.tensors import local_tensor
from magistral_mlx.convert.vocabulary.open_vocabulary import check_ids, open_vocabulary
from magistral_mlx.convert.vocabulary.tekken_json import TOKENIZER_JSON
from magistral_mlx.device import compute_dtype, dtype_name
from magistral_mlx.errors import CheckpointError
from magistral_mlx.machine import machine_limit
from magistral_mlx.memory.byte_counts import weight_bytes
from magistral_mlx.model.decoder import load_decoder
from magistral_mlx.model.token_axis import Segment

NEW_TOKENS = 8
PROMPT = "What is 12 + 30?"

LARGEST_ERROR = 0.6
"""Two bits leave a relative error of about 0.5; other weights differ by 1.4."""


@dataclass(slots=True)
class Verification:
    """What was checked, as sentences, and the error of every tensor if a source was given."""

    passed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    errors: dict[str, WeightError] = field(default_factory=dict)


def verify(folder: Path, *, source: Source | None = None) -> Verification:
    """Check a converted folder and, with a source, every weight.

    Raises CheckpointError for a folder that does not open; anything else is reported.
    """
    stored = open_stored(folder)
    found = Verification()
    found.passed.append(f"{len(stored.places)} tensors have the shapes and types of config.json.")
    _verify_checksums(stored, found)
    _verify_tokens(stored.checkpoint, found)
    if not found.failed:
        _verify_text(stored.checkpoint, found)
    if source is not None:
        _verify_against(stored, source, found)
    return found


def _verify_checksums(stored: StoredModel, found: Verification) -> None:
    if not stored.has_manifest:
        found.skipped.append("Checksums: the folder has no conversion.json of this converter.")
        return
    places, folder = stored.places, stored.checkpoint.folder
    known = {name: digest for name, digest in stored.tensor_digests.items() if name in places}
    found.failed += [
        f"Tensor {name} is not listed in conversion.json, or missing: convert the model again."
        for name in sorted(places.keys() ^ stored.tensor_digests.keys())
    ]
    found.failed += [
        f"Tensor {name} in {places[name][0].name} was changed after the conversion: convert the "
        "model again."
        for name in wrong_tensors(places, known)
    ]
    found.failed += [
        f"{name} is missing or was changed after the conversion: copy it from the source."
        for name, digest in stored.file_digests.items()
        if not (folder / name).is_file() or file_digest(folder / name) != digest
    ]
    if not found.failed:
        count = len(stored.tensor_digests) + len(stored.file_digests)
        found.passed.append(f"{count} checksums of tensors and files match conversion.json.")


def _verify_tokens(checkpoint: Checkpoint, found: Verification) -> None:
    path = checkpoint.tokenizer_file
    has_json = (checkpoint.folder / TOKENIZER_JSON).is_file()
    try:
        vocabulary = open_vocabulary(path, vocab_size=checkpoint.config.vocab_size)
        count = len(vocabulary.check())
        if has_json:
            check_ids(checkpoint.folder, vocabulary)
    except CheckpointError as error:
        found.failed.append(str(error))
        return
    found.passed.append(f"The {count} tokens of a multilingual text decode to the same text.")
    if has_json and path.name != TOKENIZER_JSON:
        found.passed.append(f"{TOKENIZER_JSON} gives the same ids for it as {path.name}.")


def _verify_text(checkpoint: Checkpoint, found: Verification) -> None:
    """Generate a few greedy tokens: the logits must be finite."""
    limit = machine_limit().bytes
    if weight_bytes(checkpoint.config, dtype_name(compute_dtype(checkpoint.config.dtype))) > limit:
        found.skipped.append(f"Text: the weights do not fit in {limit / 1e9:.1f} GB of memory.")
        return
    vocabulary = open_vocabulary(checkpoint.tokenizer_file, vocab_size=checkpoint.config.vocab_size)
    decoder = load_decoder(checkpoint)
    cache = decoder.make_cache()
    ids = [*vocabulary.begin_ids, *vocabulary.encode(PROMPT)]
    written: list[int] = []
    while len(written) < NEW_TOKENS:
        logits = decoder(mx.array(ids), [Segment(cache, len(ids), 1)])
        if not mx.all(mx.isfinite(logits)).item():
            found.failed.append("The model computes numbers that are not finite: convert it again.")
            return
        ids = [cast("int", mx.argmax(logits[-1]).item())]
        written += ids
    text = vocabulary.decode(written)
    found.passed.append(f"{NEW_TOKENS} tokens were generated: {text!r}.")


def _verify_against(stored: StoredModel, source: Source, found: Verification) -> None:
    config = stored.checkpoint.config
    parts = (".scales", ".biases")
    names = {name for name in stored.places if not name.endswith(parts)}
    if {tensor.name for tensor in source.tensors} != names:
        found.failed.append(f"{source.name} has other tensors: give the source of this folder.")
        return
    found.errors = dict(_weight_errors(stored, source))
    large = [name for name, error in found.errors.items() if error.mean > LARGEST_ERROR]
    bits = config.dtype if config.quantization is None else f"{config.quantization.bits} bits"
    if large:
        error = found.errors[large[0]]
        found.failed.append(
            f"{large[0]} differs from {source.name} by {error.mean:.0%}, more than {bits} can "
            "explain: it was made from other weights."
        )
    else:
        found.passed.append(f"All weights are those of {source.name} at {bits}.")


def _weight_errors(stored: StoredModel, source: Source) -> Iterator[tuple[str, WeightError]]:
    """The error of every tensor over all of its rows, read block by block."""
    meter: ErrorMeter | None = None
    for block, rows in read_ahead(source.tensors, readers=source.readers):
        name = block.tensor.name
        quantization = stored_as(block.tensor, stored.checkpoint.config)
        if block.start == 0:
            meter = ErrorMeter(quantization, every=1)
        assert meter is not None, "a tensor begins with its first row"
        tensors = [local_tensor(n, stored.places[n]) for n in stored_names(name, quantization)]
        parts = (as_array(t.read_rows(block.start, block.stop), t.dtype) for t in tensors)
        meter.add(as_array(rows, block.tensor.dtype), tuple(parts))
        if block.is_last:
            yield name, meter.error
            mx.clear_cache()
