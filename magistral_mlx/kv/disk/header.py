"""What a KV file says of itself: a safetensors file with its tokens, and a checksum at its end.

    header      names, types and shapes; as metadata, what the KV belongs to
    tokens      uint32
    0.0.0 ...   part, layer and array of the cache, as `kv_layout` names them
    checksum    SHA-256 of every byte before it, header included

The checksum comes last so that a file is written, and read, in one pass. SHA-256 because processors
have instructions for it: 1.7 GiB a second on the machine this was built on, BLAKE2b half as much.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from magistral_mlx.checkpoint.safetensors_header import LENGTH_BYTES, TensorSpec, parse_header
from magistral_mlx.errors import CheckpointError
from magistral_mlx.kv.cache import KVPrecision
from magistral_mlx.spec import VERSION

SUFFIX = ".safetensors"
DIGEST_BYTES = 32


class KVFileError(ValueError):
    """The file holds no KV that may be used; the message says why, after its name."""


@dataclass(frozen=True, slots=True)
class KVKind:
    """What the KV of the same tokens must agree in to be the same.

    The version is the package's: another one may compute something else.
    """

    fingerprint: str
    dtype: str
    precision: KVPrecision
    version: str = VERSION


@dataclass(frozen=True, slots=True)
class KVFile:
    """What a file says of itself. model: how the checkpoint's folder was called."""

    path: Path
    kind: KVKind
    model: str
    tokens: tuple[int, ...]
    tensors: tuple[TensorSpec, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the whole file."""
        return len(header_bytes(self)) + sum(tensor.nbytes for tensor in _all_tensors(self))


def file_name(kind: KVKind, tokens: Iterable[int]) -> str:
    """The only name under which this KV is stored, so that two writers never keep it twice."""
    content = json.dumps([_metadata(kind, model=""), *tokens])
    digest = hashlib.sha256(content.encode()).hexdigest()[:32]
    return f"{name_start(kind.fingerprint)}{digest}{SUFFIX}"


def name_start(fingerprint: str) -> str:
    """How the names of one checkpoint's files begin."""
    return f"{fingerprint[:16]}-"


def header_bytes(file: KVFile) -> bytes:
    """The beginning of the file, up to its first data."""
    entries: dict[str, object] = {"__metadata__": _metadata(file.kind, model=file.model)}
    start = 0
    for tensor in _all_tensors(file):
        offsets = [start, start + tensor.nbytes]
        entries[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": offsets,
        }
        start = offsets[1]
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def parse_kv_header(
    text: bytes, size: int, path: Path
) -> tuple[KVKind, str, tuple[TensorSpec, ...]]:
    """Kind, model and all tensors of a file of so many bytes; KVFileError when it is damaged."""
    try:
        entries = parse_header(text, size, path)
        fields = json.loads(text)["__metadata__"]
        kind, model = _kind(fields), str(fields["model"])
    except (CheckpointError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise KVFileError("its header is damaged, or its end is missing") from error
    tensors = tuple(TensorSpec(name, entry.dtype, entry.shape) for name, entry in entries.items())
    if not tensors or tensors[0] != TensorSpec("tokens", "U32", tensors[0].shape[:1]):
        raise KVFileError("it has no tokens")
    return kind, model, tensors


def _all_tensors(file: KVFile) -> list[TensorSpec]:
    tokens = TensorSpec("tokens", "U32", (len(file.tokens),))
    return [tokens, *file.tensors, TensorSpec("checksum", "U32", (DIGEST_BYTES // 4,))]


def _metadata(kind: KVKind, *, model: str) -> dict[str, str]:
    return {
        "format": "magistral-mlx KV 1",
        "fingerprint": kind.fingerprint,
        "dtype": kind.dtype,
        "bits": str(kind.precision.bits or ""),
        "start": str(kind.precision.start),
        "version": kind.version,
        "model": model,
    }


def _kind(fields: Mapping[str, str]) -> KVKind:
    bits = int(fields["bits"]) if fields["bits"] else None
    precision = KVPrecision(bits, int(fields["start"]))
    return KVKind(fields["fingerprint"], fields["dtype"], precision, fields["version"])
