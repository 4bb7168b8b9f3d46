"""Processor time per step for the text of eight streams: on the engine's thread and beside it."""

import queue
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from magistral_mlx.bench.bench_model import narrow_shape
from magistral_mlx.demo.random_model import write_random_model
from magistral_mlx.engine.output import EmittedOutput, OutputItem
from magistral_mlx.events import Finished
from magistral_mlx.text.output_text import OutputToken
from magistral_mlx.text.reasoning import OutputSplitter
from magistral_mlx.text.tokenizer import Tokenizer

STREAMS, STEPS, ROUNDS = 8, 100, 25
TEXT = "The result of 12 + 30 is 42, because 2 + 0 = 2 and 1 + 3 = 4. Größe, naïve, 世界. " * 40


def main() -> None:
    """Print the fastest of the rounds, in microseconds per step."""
    with TemporaryDirectory() as folder:
        tokenizer = Tokenizer.open(write_random_model(Path(folder) / "model", narrow_shape(1)))
    ids = tokenizer.encode(TEXT)[: STREAMS * STEPS]
    items = split(tokenizer, ids)
    print(f"engine's thread: {fastest(lambda: split(tokenizer, ids)):.0f} us per step")
    print(f"emitter's thread: {fastest(lambda: emit(items)):.0f} us per step")


def split(tokenizer: Tokenizer, ids: list[int]) -> list[OutputItem]:
    """What the engine does with each token; the streams take turns."""
    splitters = [OutputSplitter(tokenizer, state="answer") for _ in range(STREAMS)]
    items: list[OutputItem] = []
    for place, token in enumerate(ids):
        splitter = splitters[place % STREAMS]
        before = splitter.state
        items.append(OutputToken(splitter.push(token), before, splitter.state))
    return items


def emit(items: list[OutputItem]) -> None:
    """What the emitter does with each token."""
    events: queue.SimpleQueue[object] = queue.SimpleQueue()
    outputs = [
        EmittedOutput(events.put, stop=(), on_stop=stopped, on_failure=failed)
        for _ in range(STREAMS)
    ]
    for place, item in enumerate(items):
        outputs[place % STREAMS].take(item)


def stopped(_: int) -> Finished:
    """There are no stop strings."""
    raise AssertionError


def failed() -> None:
    """No receiver fails."""
    raise AssertionError


def fastest(work: Callable[[], object]) -> float:
    """Microseconds of this thread's processor time per step."""
    times = []
    for _ in range(ROUNDS):
        start = time.thread_time()
        work()
        times.append(time.thread_time() - start)
    return 1e6 * min(times) / STEPS


if __name__ == "__main__":
    main()
