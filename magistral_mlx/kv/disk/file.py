"""KV files: safetensors files with tokens, KV, and a checksum of every byte at the end.

    header      names, types and shapes; as metadata, the kind of KV
    tokens      uint32
    0.0.0 ...   part, layer and array of the cache, named by KVLayout
    checksum    SHA-256 of every byte before it, header included

The checksum is last so that a file is written and read in one pass. Processors have instructions
for SHA-256: 1.7 GiB a second on the development machine, twice as fast as BLAKE2b. A file is
complete or absent: it is written under another name and renamed at the end.
"""

import fcntl
import hashlib
import io
import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from magistral_mlx.checkpoint.safetensors_header import (
    HEADER_LIMIT,
    LENGTH_BYTES,
    TensorSpec,
    header_bytes,
    parse_header,
)
from magistral_mlx.errors import CheckpointError
from magistral_mlx.kv.cache import KVPrecision
from magistral_mlx.spec import VERSION

SUFFIX = ".safetensors"
DIGEST_BYTES = 32
UNFINISHED_SUFFIX = ".unfinished"

Rows = npt.NDArray[Any]
"""One array of a cache as NumPy can hold it: bfloat16 values as their 16 bits."""

_ITEM_TYPES = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32, "U32": np.uint32}


class KVFileError(ValueError):
    """The KV of a file must not be used; the message gives the reason."""


@dataclass(frozen=True, slots=True)
class KVKind:
    """The properties that KV of the same tokens must share to be the same.

    version: of the package: another one may compute different values.
    """

    fingerprint: str
    dtype: str
    precision: KVPrecision
    version: str = VERSION


@dataclass(frozen=True, slots=True)
class KVFile:
    """The description of a file. model: name of the checkpoint's folder."""

    path: Path
    kind: KVKind
    model: str
    tokens: tuple[int, ...]
    tensors: tuple[TensorSpec, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the whole file."""
        return len(_header(self)) + sum(tensor.nbytes for tensor in _all_tensors(self))


def write_kv_file(
    file: KVFile, rows: Iterable[Rows], *, used: float, stop: Callable[[], bool]
) -> bool:
    """Write a file of mode 0600 completely, or not at all.

    The unfinished file is locked, and has its full length from the beginning.

    Args:
        rows: the data of `file.tensors`, in order.
        used: the time of last use, in seconds since the epoch; the file gets this date.
        stop: called before every array; when it returns True, the file is dropped.

    Returns False when it was stopped. Raises OSError, for example for a full disk.
    """
    unfinished = file.path.with_name(f".{uuid.uuid4().hex}{UNFINISHED_SUFFIX}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with io.FileIO(descriptor, "wb") as output:
            fcntl.flock(output, fcntl.LOCK_EX | fcntl.LOCK_NB)
            output.truncate(file.nbytes)
            if not _write(output, file, rows, stop):
                return False
            os.utime(unfinished, (used, used))
            unfinished.rename(file.path)
            return True
    finally:
        with suppress(OSError):  # usually it has been renamed
            unfinished.unlink()


def read_kv_file(path: Path) -> KVFile:
    """A file's description, without reading its KV.

    Raises KVFileError when it is damaged or not a KV file, OSError when it cannot be read.
    """
    with KVReader(path) as reader:
        return reader.file


class KVReader(AbstractContextManager["KVReader"]):
    """Reads a file from beginning to end. Its data may be used only after `verify`."""

    file: KVFile

    def __init__(self, path: Path) -> None:
        """Read the part before the KV. Raises as `read_kv_file`."""
        self._input = path.open("rb")
        self._digest = hashlib.sha256()
        try:
            _check_owner(self._input)
            self.file = self._read_head(path)
        except BaseException:
            self._input.close()
            raise

    def rows(self) -> Iterator[Rows]:
        """The data of `file.tensors`, in order. Raises KVFileError when the file ends early."""
        for tensor in self.file.tensors:
            data = np.frombuffer(self._read(tensor.nbytes), _ITEM_TYPES[tensor.dtype])
            yield data.reshape(tensor.shape)

    def verify(self) -> None:
        """Compare the checksum of all bytes read. Raises KVFileError when it differs."""
        expected = self._digest.digest()
        if self._read(DIGEST_BYTES) != expected:
            raise KVFileError("its checksum is wrong")

    def __exit__(self, *_: object) -> None:
        self._input.close()

    def _read_head(self, path: Path) -> KVFile:
        start = self._read(LENGTH_BYTES)
        length = int.from_bytes(start, "little")
        size = os.fstat(self._input.fileno()).st_size
        if length > min(size, HEADER_LIMIT):
            raise KVFileError("it has no header")
        text = self._read(length)
        kind, model, tensors = parse_kv_header(bytes(text), size, path)
        tokens = np.frombuffer(self._read(tensors[0].nbytes), np.uint32).tolist()
        file = KVFile(path, kind, model, tuple(tokens), tensors[1:-1])
        # Only the exact header that this program writes is accepted.
        if _header(file) != start + text or path.name != file_name(kind, tokens):
            raise KVFileError("it was not written by this program")
        return file

    def _read(self, count: int) -> bytearray:
        data = bytearray(count)
        if self._input.readinto(data) != count:
            raise KVFileError("it ends early")
        self._digest.update(data)
        return data


def _write(output: io.FileIO, file: KVFile, rows: Iterable[Rows], stop: Callable[[], bool]) -> bool:
    digest = hashlib.sha256()

    def put(data: bytes | memoryview) -> None:
        digest.update(data)
        rest = memoryview(data)
        while rest:
            rest = rest[output.write(rest) :]

    put(_header(file))
    put(np.array(file.tokens, np.uint32).tobytes())
    arrays = iter(rows)
    for tensor in file.tensors:
        if stop():
            return False
        array = np.ascontiguousarray(next(arrays))
        assert array.shape == tensor.shape, tensor
        assert array.dtype == np.dtype(_ITEM_TYPES[tensor.dtype]), tensor
        put(array.data.cast("B"))
    put(digest.digest())
    return True


def _check_owner(file: io.BufferedReader) -> None:
    """Refuse files that other users may have written: a checksum is no signature."""
    status = os.fstat(file.fileno())
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise KVFileError("other users may have written it")


def file_name(kind: KVKind, tokens: Iterable[int]) -> str:
    """The name of this KV's file, always the same, so that two writers never store it twice."""
    content = json.dumps([_metadata(kind, model=""), *tokens])
    digest = hashlib.sha256(content.encode()).hexdigest()[:32]
    return f"{name_start(kind.fingerprint)}{digest}{SUFFIX}"


def name_start(fingerprint: str) -> str:
    """The start of the names of one checkpoint's files."""
    return f"{fingerprint[:16]}-"


def _header(file: KVFile) -> bytes:
    return header_bytes(_all_tensors(file), _metadata(file.kind, model=file.model))


def parse_kv_header(
    text: bytes, size: int, path: Path
) -> tuple[KVKind, str, tuple[TensorSpec, ...]]:
    """Kind, model and all tensors of a file of `size` bytes; KVFileError when it is damaged."""
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
