"""Several processes on one folder of KV files, and one that is killed."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from magistral_mlx.checkpoint.folder import Checkpoint
from magistral_mlx.kv.cache import KVCache
from magistral_mlx.kv.disk.file import read_kv_file
from tests.kv.kv_samples import FILE_BYTES, files, ids, open_store, warnings, write

ROOT = Path(__file__).parents[2]
PLAIN = KVCache.precision


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "kv"


WRITER = """
import sys, time
from pathlib import Path
import tests.kv.kv_samples as t
from magistral_mlx.checkpoint.folder import open_checkpoint
checkpoint = open_checkpoint(Path(sys.argv[2]))
store = t.open_store(Path(sys.argv[1]), checkpoint)
count = 0
def stop():
    global count
    count += 1
    if count == 3:
        print("begun", flush=True)
        time.sleep(60)
    return False
t.write(store, checkpoint, t.ids(150), stop=stop)
"""


def test_a_writer_that_is_killed_leaves_nothing_that_is_used(
    folder: Path, checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), str(checkpoint.folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stdout.readline() == b"begun\n"
    [unfinished] = files(folder)
    assert unfinished.suffix == ".unfinished"
    assert FILE_BYTES - 500 < unfinished.stat().st_size <= FILE_BYTES
    # While its writer lives it is left alone, and counts.
    store = open_store(folder, checkpoint, limit=FILE_BYTES)
    write(store, checkpoint, ids(150, 5))
    assert files(folder) == [unfinished]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert warnings(caplog) == []
    assert open_store(folder, checkpoint).load(ids(150), PLAIN) is None
    assert files(folder) == []
    assert len(warnings(caplog)) == 1


HAMMER = """
import random, sys, time
from pathlib import Path
import tests.kv.kv_samples as t
from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.kv.cache import KVCache
folder, model, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
checkpoint = open_checkpoint(model)
store = t.open_store(folder, checkpoint, limit=3 * t.FILE_BYTES)
draw, end, loads = random.Random(seed), time.monotonic() + 2, 0
while time.monotonic() < end:
    tokens = t.ids(draw.choice([128, 150]), draw.randrange(5))
    cache = t.sample_kv(checkpoint.config, tokens)
    if draw.random() < 0.5:
        if store.wants(tokens, cache):
            store.write(tokens, cache, used=time.time(), stop=t.never)
    elif (loaded := store.load(tokens, KVCache.precision)) is not None:
        assert t.same_kv(checkpoint.config, loaded, cache.copy(loaded.length))
        loads += 1
assert loads > 5, loads
"""


def test_two_processes_on_one_folder_do_not_break_each_other(
    folder: Path, checkpoint: Checkpoint
) -> None:
    arguments = [sys.executable, "-c", HAMMER, str(folder), str(checkpoint.folder)]
    processes = [
        subprocess.Popen([*arguments, str(seed)], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for seed in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
    for path in files(folder):
        read_kv_file(path)
    # Two may make room at the same moment, each for its own file.
    assert sum(path.stat().st_size for path in files(folder)) <= 4 * FILE_BYTES
