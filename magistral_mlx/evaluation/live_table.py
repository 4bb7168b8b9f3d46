"""What a run shows while it goes on."""

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from magistral_mlx.evaluation.question import QuestionSet
from magistral_mlx.evaluation.results import compute_results, wanted_samples
from magistral_mlx.evaluation.results_view import percent, results_view
from magistral_mlx.evaluation.sample import Sample

SECONDS = 0.5
"""Least time between two tables: a bootstrap takes its time."""


class LiveTable:
    """The table of results as it grows, with a bar; in a pipe, a line for every tenth."""

    def __init__(self, questions: QuestionSet, *, k: int, model: str, console: Console) -> None:
        """Show it on the console; use it with `with`."""
        self._questions = questions
        self._k = k
        self._model = model
        self._console = console
        self._bar = Progress(
            TextColumn("Samples"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        )
        self._task = self._bar.add_task("", total=k * len(questions.questions))
        self._live = Live(console=console, transient=True, auto_refresh=console.is_terminal)
        self._shown_at = -SECONDS
        self._tenths: int | None = None

    def __enter__(self) -> "LiveTable":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def show(self, samples: Sequence[Sample]) -> None:
        """Show these samples, unless the last table is younger than half a second."""
        if not self._console.is_terminal:
            self._print_tenth(samples)
        elif time.monotonic() - self._shown_at >= SECONDS:
            self._shown_at = time.monotonic()
            results = compute_results(self._questions.questions, samples, k=self._k)
            self._bar.update(self._task, completed=results.done)
            table = results_view(self._questions, results, model=self._model)
            self._live.update(Group(table, self._bar))

    def _print_tenth(self, samples: Sequence[Sample]) -> None:
        kept = wanted_samples(self._questions.questions, samples, k=self._k)
        total = self._k * len(self._questions.questions)
        tenths = 10 * len(kept) // total
        if tenths != self._tenths:
            self._tenths = tenths
            right = sum(sample.right for sample in kept)
            share = f", {percent(right / len(kept))} % right" if kept else ""
            self._console.print(f"{len(kept):,} of {total:,} samples{share}", highlight=False)
