"""A thousand requests from several threads, many cancelled: none is lost, and nothing grows."""

import gc
import random
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import mlx.core as mx
import pytest

from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.engine.engine import Engine
from magistral_mlx.engine.request import Request
from magistral_mlx.engine.sequence import Sequence
from magistral_mlx.events import Event, Failed, Finished
from magistral_mlx.kv.cache import BLOCK
from magistral_mlx.options import OutputOptions
from magistral_mlx.sampling.sampler import SamplingParams
from magistral_mlx.text.tokenizer import Tokenizer
from tests.sample_checkpoints import HEAD_DIM, KV_HEADS, LAYERS, VOCAB, write_hf

BLOCK_BYTES = 2 * LAYERS * KV_HEADS * HEAD_DIM * 4 * BLOCK
THREADS = 5


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    checkpoint = open_checkpoint(write_hf(tmp_path / "tiny"))
    engine = Engine(
        checkpoint,
        Tokenizer.open(checkpoint.folder),
        window=4 * BLOCK,
        max_running=6,
        kv_bytes=12 * BLOCK_BYTES,
        prefix_bytes=6 * BLOCK_BYTES,
    )
    yield engine
    engine.close()


class Client:
    """One thread's requests, one after the other, from its own random numbers."""

    def __init__(self, engine: Engine, seed: int) -> None:
        self._engine = engine
        self._draw = random.Random(seed)
        self.ends: Counter[str] = Counter()
        self.sequences: list[weakref.ref[Sequence]] = []

    def ask(self, count: int) -> None:
        for _ in range(count):
            self._ask(self._request())

    def _ask(self, request: Request) -> None:
        events = SimpleQueue[Event]()
        sequence = self._engine.submit_to(request, events.put)
        self.sequences.append(weakref.ref(sequence))
        cancel_at = self._draw.choice((None, None, 0, 1, 5))
        for number in range(10_000):
            if number == cancel_at:
                self._engine.cancel(sequence)
            if self._draw.random() < 0.01:
                self._engine.prefill_when_idle(request.prompt)
            event = events.get(timeout=120)
            if isinstance(event, Finished | Failed):
                assert isinstance(event, Finished)
                self.ends[event.reason] += 1
                self._engine.cancel(sequence)  # too late, and no harm
                break

    def _request(self) -> Request:
        draw = self._draw
        length = draw.choice((1, 20, 90, 250, 400))
        start = 131 * draw.randint(0, 5)
        return Request(
            tuple(1000 + (7 * i + start + i * i) % (VOCAB - 1000) for i in range(length)),
            state=draw.choice(("auto", "reasoning")),
            options=OutputOptions(
                sampling=SamplingParams(
                    temperature=draw.choice((0, 1, 3)), seed=draw.randint(0, 99)
                ),
                max_tokens=draw.choice((1, 5, 20, 40)),
                thinking_budget=draw.choice((None, 4)),
                priority=draw.choice(("interactive", "batch")),
                timeout=draw.choice((None, None, None, 0.05)),
            ),
        )


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_thousand_requests_leave_the_memory_as_they_found_it(engine: Engine) -> None:
    clients = [Client(engine, seed) for seed in range(THREADS)]
    ask(clients, 20)
    start = settled_memory(engine)
    ask(clients, 200)
    assert abs(settled_memory(engine) - start) <= 0.05 * start
    assert engine._thread.is_alive()
    assert engine._loop.prefixes.nbytes <= 6 * BLOCK_BYTES
    ends = sum((client.ends for client in clients), Counter[str]())
    assert sum(ends.values()) == THREADS * 220
    assert {"length", "cancelled", "timeout"} <= ends.keys()
    # Python's own memory does not grow either: the engine has let go of every request.
    assert until(lambda: not any(ref() for client in clients for ref in client.sequences))


def ask(clients: list[Client], count: int) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(client.ask, count) for client in clients]:
            done.result(timeout=1200)


def settled_memory(engine: Engine) -> int:
    """Bytes beside finished KV, of which there is more or less by chance, once all is idle."""
    assert until(lambda: not engine._loop.scheduler.unfinished())
    readings = [0]

    def is_settled() -> bool:
        readings.append(mx.get_active_memory() - engine._loop.prefixes.nbytes)
        return len(readings) > 20 and len(set(readings[-20:])) == 1

    assert until(is_settled)
    return readings[-1]


def until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.02)
    return condition()
