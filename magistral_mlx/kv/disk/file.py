"""Writing and reading KV files: all or nothing, and every byte under the checksum."""

import fcntl
import hashlib
import io
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from magistral_mlx.checkpoint.safetensors_header import HEADER_LIMIT, LENGTH_BYTES
from magistral_mlx.kv.disk.header import (
    DIGEST_BYTES,
    KVFile,
    KVFileError,
    file_name,
    header_bytes,
    parse_kv_header,
)

UNFINISHED_SUFFIX = ".unfinished"

Rows = npt.NDArray[Any]
"""One array of a cache as NumPy can hold it: bfloat16 values as their 16 bits."""

_ITEM_TYPES = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32, "U32": np.uint32}


def write_kv_file(
    file: KVFile, rows: Iterable[Rows], *, used: float, stop: Callable[[], bool]
) -> bool:
    """Write a file of mode 0600; it appears when it is complete, or not at all.

    While it is written it is locked, and has its full length from the beginning.

    Args:
        rows: the data of `file.tensors`, in order.
        used: when it was last used, in seconds since the epoch; the file gets this date.
        stop: asked before every array; when it says so, nothing is written.

    Returns False when it was stopped. Raises OSError, as for a full disk.
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
        with suppress(OSError):  # it has been renamed, as a rule
            unfinished.unlink()


def read_kv_file(path: Path) -> KVFile:
    """What a file says of itself, without reading its KV.

    Raises KVFileError when it is damaged, or not such a file; OSError when it cannot be read.
    """
    with KVReader(path) as reader:
        return reader.file


class KVReader(AbstractContextManager["KVReader"]):
    """Reads a file from beginning to end. What it gives may be used only after `verify`."""

    file: KVFile

    def __init__(self, path: Path) -> None:
        """Read what comes before the KV. Raises as `read_kv_file`."""
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
        """Check all bytes that were read against the checksum; KVFileError when they differ."""
        expected = self._digest.digest()
        if self._read(DIGEST_BYTES) != expected:
            raise KVFileError("its checksum is wrong")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
        # Whatever else a header may say: it must be the one that would be written.
        if header_bytes(file) != start + text or path.name != file_name(kind, tokens):
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
        _write_all(output, data)

    put(header_bytes(file))
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


def _write_all(output: io.FileIO, data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[output.write(rest) :]


def _check_owner(file: io.BufferedReader) -> None:
    """What others may have written is not trusted: a checksum is no signature."""
    status = os.fstat(file.fileno())
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise KVFileError("other users may have written it")
