"""Requests to our engine, and when each token of theirs came out of it."""

import time
from collections.abc import Sequence
from queue import SimpleQueue

from magistral_mlx.bench.output import Output
from magistral_mlx.engine.engine import Engine
from magistral_mlx.engine.request import Request
from magistral_mlx.engine.sequence import Sequence as Running
from magistral_mlx.errors import EngineError
from magistral_mlx.events import AnswerText, Event, Failed, Finished, ReasoningText
from magistral_mlx.kv.cache import KVPrecision
from magistral_mlx.sampling.sampler import SamplingParams


class Recording:
    """A request on its way, and the notes taken of it on the engine's thread."""

    def __init__(
        self,
        engine: Engine,
        prompt: Sequence[int],
        tokens: int,
        *,
        precision: KVPrecision | None = None,
    ) -> None:
        """Submit it: greedy, exactly so many tokens."""
        self._output = Output(submitted=time.perf_counter())
        self._engine = engine
        self._sequence: Running | None = None
        self._ended: SimpleQueue[Event] = SimpleQueue()
        self._marks: SimpleQueue[int] = SimpleQueue()
        request = Request(
            tuple(prompt),
            state="answer",
            sampling=SamplingParams(temperature=0),
            max_tokens=tokens,
            stop_repetition=False,
            ignore_eos=True,
            kv_precision=precision,
        )
        self._sequence = engine.submit_to(request, self._note)

    def wait(self) -> Output:
        """The whole output. Raises EngineError when the engine failed."""
        end = self._ended.get()
        if isinstance(end, Failed):
            raise EngineError(end.message)
        assert self._sequence is not None
        self._output.tokens = self._sequence.ids[len(self._sequence.request.prompt) :]
        return self._output

    def wait_for(self, tokens: int) -> None:
        """Until there are so many."""
        while self._marks.get() < tokens:
            pass

    def cancel(self) -> None:
        """End it early."""
        assert self._sequence is not None
        self._engine.cancel(self._sequence)

    def _note(self, event: Event) -> None:
        """Text may be held back until more tokens are there, so tokens are counted, not events."""
        now, sequence = time.perf_counter(), self._sequence
        if sequence is not None and isinstance(event, AnswerText | ReasoningText | Finished):
            known = len(sequence.ids) - len(sequence.request.prompt)
            if not self._output.marks or known > self._output.marks[-1][1]:
                self._output.marks.append((now, known))
            self._marks.put(known)
        if isinstance(event, Finished):
            self._output.end = event
        if isinstance(event, Finished | Failed):
            self._note_kv(sequence)
            self._ended.put(event)

    def _note_kv(self, sequence: Running | None) -> None:
        if sequence is not None and sequence.cache is not None:
            self._output.kv_bytes = sequence.cache.nbytes
            self._output.kv_tokens = sequence.cache.length


def run_ours(
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    tokens: int,
    *,
    precision: KVPrecision | None = None,
) -> list[Output]:
    """Submit all prompts at once; wait for all outputs."""
    recordings = [Recording(engine, prompt, tokens, precision=precision) for prompt in prompts]
    return [recording.wait() for recording in recordings]
