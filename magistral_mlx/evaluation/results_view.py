"""Results as tables on the terminal, beside published figures, and while a run is drawing."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from magistral_mlx.evaluation.language_share import LanguageShare, PartShare
from magistral_mlx.evaluation.question import QuestionSet
from magistral_mlx.evaluation.results import Results, compute_results, wanted_samples
from magistral_mlx.evaluation.sample import Sample
from magistral_mlx.evaluation.statistics import Estimate
from magistral_mlx.spec import HUB_ID, LANGUAGES

SECONDS_BETWEEN_TABLES = 0.5
"""A bootstrap takes too long to repeat for each sample."""


@dataclass(frozen=True, slots=True)
class Published:
    """A share of right answers, from 0 to 1; its model, and where it is stated."""

    model: str
    value: float
    source: str


_CARD = f"model card of {HUB_ID}, pass@1"
_DEMO = "magistral_mlx/demo/README.md, 500 questions, greedy, 4-bit weights"

PUBLISHED: dict[str, tuple[Published, ...]] = {
    "demo": (Published("demo", 0.998, _DEMO),),
    "aime24": (
        Published("Magistral Small", 0.7068, _CARD),
        Published("Magistral Medium", 0.7359, _CARD),
    ),
    "aime25": (
        Published("Magistral Small", 0.6276, _CARD),
        Published("Magistral Medium", 0.6495, _CARD),
    ),
    "gpqa-diamond": (
        Published("Magistral Small", 0.6818, _CARD),
        Published("Magistral Medium", 0.7083, _CARD),
    ),
}
"""By the name of the set. LiveCodeBench v5 (55.84 and 59.36) runs code: see docs/evaluation.md."""


def results_view(questions: QuestionSet, results: Results, *, model: str) -> RenderableType:
    """Each metric with its interval, beside the published figures."""
    count = f"{results.done:,} of {results.wanted:,} samples"
    table = plain_table(f"{questions.title}, {model}: {count}")
    for name in ("", "Right, %", "95 % interval", "Interval by", "Questions"):
        table.add_column(name, justify="left" if name in ("", "Interval by") else "right")
    for style, row in result_rows(questions, results):
        table.add_row(*row, style=style)
    return Group(table, Text(_counts(results), style="dim"))


def languages_view(shares: Sequence[LanguageShare]) -> RenderableType:
    """How often reasoning and answer are in the question's language."""
    table = plain_table("In the language of the question, %")
    table.add_column("")
    for name in ("Reasoning", "95 %", "Texts", "Answer", "95 %", "Texts"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Otherwise")
    for share in shares:
        table.add_row(*language_row(share), style="bold" if share.language == "all" else None)
    return table


class LiveTable:
    """The table of results as it grows, with a bar; in a pipe, a line for each tenth.

    Use it in a `with` block.
    """

    def __init__(self, questions: QuestionSet, *, k: int, model: str, console: Console) -> None:
        self._questions = questions
        self._k = k
        self._model = model
        self._console = console
        self._bar = Progress(
            TextColumn("Samples"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        )
        self._task = self._bar.add_task("", total=k * len(questions.questions))
        self._live = Live(console=console, transient=True, auto_refresh=console.is_terminal)
        self._shown_at = -SECONDS_BETWEEN_TABLES
        self._tenths: int | None = None

    def __enter__(self) -> "LiveTable":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, samples: Sequence[Sample]) -> None:
        """Show these samples, unless the last table is younger than half a second."""
        if not self._console.is_terminal:
            self._print_tenth(samples)
        elif time.monotonic() - self._shown_at >= SECONDS_BETWEEN_TABLES:
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


def result_rows(
    questions: QuestionSet, results: Results
) -> list[tuple[Literal["bold", "dim"] | None, tuple[str, ...]]]:
    """The rows of `results_view`: metrics in bold, groups, published figures dimmed."""
    published = PUBLISHED.get(questions.name, ())
    return [
        *(("bold", (name, *_columns(each), f"{n:,}")) for name, each, n in metrics(results)),
        *((None, (f"  {name}", *_columns(each), "")) for name, each in results.by_group.items()),
        *(
            ("dim", (f"{p.model}, published", percent(p.value), _verdict(p, results), "", ""))
            for p in published
        ),
    ]


def metrics(results: Results) -> list[tuple[str, Estimate, int]]:
    """Name, estimate and number of questions of each metric with samples."""
    found: list[tuple[str, Estimate | None, int]] = [("pass@1", results.pass_at_1, results.begun)]
    found += [(f"pass@{k}", each, results.complete) for k, each in results.pass_at.items()]
    found.append((f"maj@{results.k}", results.majority, results.complete))
    return [(name, estimate, asked) for name, estimate, asked in found if estimate is not None]


def percent(share: float) -> str:
    """A share from 0 to 1 in percent."""
    return f"{100 * share:.1f}"


def interval(estimate: Estimate) -> str:
    """The bounds of the interval in percent."""
    return f"{percent(estimate.low)}–{percent(estimate.high)}"


def _verdict(published: Published, results: Results) -> str:
    """Whether a published figure is inside, above or below the interval of pass@1."""
    measured = results.pass_at_1
    if measured is None:
        return ""
    if measured.holds(published.value):
        return "inside"
    return "above" if published.value > measured.high else "below"


def language_row(share: LanguageShare) -> tuple[str, ...]:
    """The columns of `languages_view`."""
    name = LANGUAGES.get(share.language, share.language)
    parts = (("reasoning", share.reasoning.others), ("answer", share.answer.others))
    others = "; ".join(
        f"{part}: " + ", ".join(f"{code} {count}" for code, count in sorted(found.items()))
        for part, found in parts
        if found
    )
    return (name, *_part_columns(share.reasoning), *_part_columns(share.answer), others)


def plain_table(title: str) -> Table:
    """A table without lines, with its title to the left."""
    return Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1))


def _part_columns(part: PartShare) -> tuple[str, str, str]:
    """Share, interval and number of texts; short texts do not count."""
    if part.share is None:
        return "–", "", f"0 of {part.short}" if part.short else "0"
    texts = f"{part.counted}" + (f" of {part.counted + part.short}" if part.short else "")
    return percent(part.share.value), interval(part.share), texts


def _columns(estimate: Estimate) -> tuple[str, str, str]:
    return percent(estimate.value), interval(estimate), estimate.method


def _counts(results: Results) -> str:
    ends = ", ".join(f"{name} {count:,}" for name, count in sorted(results.ends.items()))
    return (
        f"{results.mean_tokens:,.0f} tokens a sample, {results.mean_reasoning_tokens:,.0f} of "
        f"reasoning; reasoning closed by force: {percent(results.forced)} %; nothing to grade: "
        f"{percent(results.unanswered)} %; ended by: {ends or 'nothing yet'}"
    )
