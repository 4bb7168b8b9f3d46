"""KV files that are damaged, foreign or unsafe are never used; a full disk is no error."""

import logging
import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magistral_mlx.checkpoint.folder import Checkpoint
from magistral_mlx.kv.cache import KVCache, KVPrecision
from magistral_mlx.kv.disk.file import KVFile, file_name, write_kv_file
from magistral_mlx.kv.disk.store import KVLayout
from tests.kv.kv_samples import NOW, files, ids, never, open_store, sample_kv, warnings, write

PLAIN = KVCache.precision


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "kv"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, checkpoint: Checkpoint) -> Path:
    """A folder with one good file, to be copied and damaged."""
    folder = tmp_path_factory.mktemp("good")
    write(open_store(folder, checkpoint), checkpoint, ids(150))
    return folder


damages = st.one_of(
    st.tuples(st.just("flip"), st.integers(0, 10**7), st.integers(1, 255)),
    st.tuples(st.just("flip"), st.integers(0, 3000), st.integers(1, 255)),  # the header
    st.tuples(st.just("cut"), st.integers(0, 10**7), st.just(0)),
    st.tuples(st.just("append"), st.integers(0, 10**7), st.integers(0, 255)),
)


@settings(max_examples=120, deadline=None)
@given(damages)
def test_a_damaged_file_is_dropped_with_one_line_and_never_used(
    good: Path, checkpoint: Checkpoint, damage: tuple[str, int, int]
) -> None:
    with tempfile.TemporaryDirectory() as name, capture_warnings() as said:
        folder = Path(name)
        [source] = files(good)
        (folder / source.name).write_bytes(damaged(source.read_bytes(), *damage))
        (folder / source.name).chmod(0o600)
        store = open_store(folder, checkpoint)
        assert store.load(ids(150), PLAIN) is None
        assert store.longest_prefix(ids(150), PLAIN) == 0
        assert files(folder) == []
        assert len(said) == 1
        assert said[0].startswith("Removed")


def damaged(data: bytes, how: str, place: int, value: int) -> bytes:
    if how == "cut":
        return data[: place % len(data)]
    if how == "append":
        return data + bytes([value]) * (1 + place % 5000)
    place %= len(data)
    return data[:place] + bytes([data[place] ^ value]) + data[place + 1 :]


class capture_warnings(logging.Handler):
    """A list of warnings; hypothesis does not go with caplog."""

    def __enter__(self) -> list[str]:
        self.said: list[str] = []
        logging.getLogger("magistral_mlx").addHandler(self)
        return self.said

    def __exit__(self, *_: object) -> None:
        logging.getLogger("magistral_mlx").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def test_a_file_damaged_after_it_was_indexed_is_not_used(
    folder: Path, checkpoint: Checkpoint
) -> None:
    store = open_store(folder, checkpoint)
    write(store, checkpoint, ids(150))
    [path] = files(folder)
    data = path.read_bytes()
    path.write_bytes(damaged(data, "flip", len(data) - 5000, 1))
    assert store.longest_prefix(ids(150), PLAIN) == 150
    assert store.load(ids(150), PLAIN) is None
    assert files(folder) == []


def stored_as(folder: Path, checkpoint: Checkpoint, **changes: object) -> KVFile:
    """What a good file says, but for some changes; its name fits them."""
    kind = replace(open_store(folder, checkpoint)._index.kind(PLAIN), **changes)  # type: ignore[arg-type]
    tensors = KVLayout(checkpoint.config, mx.float32, PLAIN).tensors(150)
    return KVFile(folder / file_name(kind, ids(150)), kind, "tiny", tuple(ids(150)), tensors)


def write_raw(file: KVFile, checkpoint: Checkpoint) -> None:
    layout = KVLayout(checkpoint.config, mx.float32, PLAIN)
    write_kv_file(file, layout.rows(sample_kv(checkpoint.config, ids(150))), used=NOW, stop=never)


@pytest.mark.parametrize(
    "changes", [{"version": "0.0.1"}, {"dtype": "bfloat16"}, {"precision": KVPrecision(8)}]
)
def test_files_of_other_versions_and_types_are_left_alone_and_not_used(
    folder: Path, checkpoint: Checkpoint, changes: dict[str, object]
) -> None:
    file = stored_as(folder, checkpoint, **changes)
    write_raw(file, checkpoint)
    assert open_store(folder, checkpoint).load(ids(150), PLAIN) is None
    assert files(folder) == [file.path]


def test_a_file_of_another_checkpoint_is_not_used_whatever_it_is_called(
    folder: Path, checkpoint: Checkpoint
) -> None:
    file = stored_as(folder, checkpoint, fingerprint="0" * 64)
    write_raw(file, checkpoint)
    ours = folder / stored_as(folder, checkpoint).path.name
    shutil.copy(file.path, ours)
    assert open_store(folder, checkpoint).load(ids(150), PLAIN) is None
    assert files(folder) == [file.path]


def test_arrays_of_another_shape_are_not_used(folder: Path, checkpoint: Checkpoint) -> None:
    file = stored_as(folder, checkpoint)
    head = next(iter(file.tensors))
    shape = (1, head.shape[1] * 2, head.shape[2], head.shape[3] // 2)
    other = replace(file, tensors=tuple(replace(t, shape=shape) for t in file.tensors))
    arrays = [np.zeros(shape, np.float32) for _ in other.tensors]
    write_kv_file(other, arrays, used=NOW, stop=never)
    assert open_store(folder, checkpoint).load(ids(150), PLAIN) is None
    assert files(folder) == []


def test_a_file_that_others_may_have_written_is_not_used(
    folder: Path, checkpoint: Checkpoint
) -> None:
    write(open_store(folder, checkpoint), checkpoint, ids(150))
    [path] = files(folder)
    path.chmod(0o660)
    assert open_store(folder, checkpoint).load(ids(150), PLAIN) is None
    assert files(folder) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_not_used(folder: Path, checkpoint: Checkpoint) -> None:
    write(open_store(folder, checkpoint), checkpoint, ids(150))
    os.chown(files(folder)[0], 12345, 12345)
    assert open_store(folder, checkpoint).load(ids(150), PLAIN) is None


@pytest.fixture
def small_files() -> Iterator[None]:
    """A disk on which no file can be longer than 64 kB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_is_a_log_line(
    folder: Path, checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    store, tokens = open_store(folder, checkpoint), ids(150)
    cache = sample_kv(checkpoint.config, tokens)
    store.write(tokens, cache, used=NOW, stop=never)
    assert files(folder) == []
    assert len(warnings(caplog)) == 1
    assert "could not be stored" in warnings(caplog)[0]
    assert not store.wants(tokens, cache)
