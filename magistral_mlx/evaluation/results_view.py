"""Results as a table on the terminal."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from magistral_mlx.evaluation.language_share import LanguageShare, PartShare
from magistral_mlx.evaluation.published import PUBLISHED, Published
from magistral_mlx.evaluation.question import QuestionSet
from magistral_mlx.evaluation.results import Results
from magistral_mlx.evaluation.statistics import Estimate
from magistral_mlx.spec import LANGUAGES


def results_view(questions: QuestionSet, results: Results, *, model: str) -> RenderableType:
    """Each metric with its interval, beside what has been published."""
    count = f"{results.done:,} of {results.wanted:,} samples"
    table = _table(f"{questions.title}, {model}: {count}")
    for name in ("", "Right, %", "95 % interval", "Interval by", "Questions"):
        table.add_column(name, justify="left" if name in ("", "Interval by") else "right")
    for name, estimate, asked in metrics(results):
        table.add_row(name, *_columns(estimate), f"{asked:,}", style="bold")
    for name, estimate in results.by_group.items():
        table.add_row(f"  {name}", *_columns(estimate), "")
    for published in PUBLISHED.get(questions.name, ()):
        table.add_row(
            Text(f"{published.model}, published", style="dim"),
            Text(percent(published.value), style="dim"),
            Text(verdict(published, results), style="dim"),
        )
    return Group(table, Text(_tokens(results), style="dim"))


def languages_view(shares: Sequence[LanguageShare]) -> RenderableType:
    """How often reasoning and answer are in the question's language."""
    table = _table("In the language of the question, %")
    table.add_column("")
    for name in ("Reasoning", "95 %", "Texts", "Answer", "95 %", "Texts"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Otherwise")
    for share in shares:
        table.add_row(
            LANGUAGES.get(share.language, share.language),
            *part_columns(share.reasoning),
            *part_columns(share.answer),
            others(share),
            style="bold" if share.language == "all" else None,
        )
    return table


def metrics(results: Results) -> list[tuple[str, Estimate, int]]:
    """Name, estimate and number of questions of each metric that there is."""
    found: list[tuple[str, Estimate | None, int]] = [("pass@1", results.pass_at_1, results.begun)]
    found += [(f"pass@{k}", each, results.complete) for k, each in results.pass_at.items()]
    found.append((f"maj@{results.k}", results.majority, results.complete))
    return [(name, estimate, asked) for name, estimate, asked in found if estimate is not None]


def percent(share: float) -> str:
    """A share from 0 to 1 in percent."""
    return f"{100 * share:.1f}"


def interval(estimate: Estimate) -> str:
    """Its bounds in percent."""
    return f"{percent(estimate.low)}–{percent(estimate.high)}"


def verdict(published: Published, results: Results) -> str:
    """Where a published figure lies to the interval of pass@1."""
    measured = results.pass_at_1
    if measured is None:
        return ""
    if measured.holds(published.value):
        return "inside"
    return "above" if published.value > measured.high else "below"


def part_columns(part: PartShare) -> tuple[str, str, str]:
    """Share, interval and number of texts; short texts are not counted."""
    if part.share is None:
        return "–", "", f"0 of {part.short}" if part.short else "0"
    texts = f"{part.counted}" + (f" of {part.counted + part.short}" if part.short else "")
    return percent(part.share.value), interval(part.share), texts


def others(share: LanguageShare) -> str:
    """Which other languages were found how often."""
    parts = (("reasoning", share.reasoning.others), ("answer", share.answer.others))
    return "; ".join(
        f"{name}: " + ", ".join(f"{code} {count}" for code, count in sorted(found.items()))
        for name, found in parts
        if found
    )


def _columns(estimate: Estimate) -> tuple[str, str, str]:
    return percent(estimate.value), interval(estimate), estimate.method


def _tokens(results: Results) -> str:
    ends = ", ".join(f"{name} {count:,}" for name, count in sorted(results.ends.items()))
    return (
        f"{results.mean_tokens:,.0f} tokens a sample, {results.mean_reasoning_tokens:,.0f} of "
        f"reasoning; reasoning closed by force: {percent(results.forced)} %; nothing to grade: "
        f"{percent(results.unanswered)} %; ended by: {ends or 'nothing yet'}"
    )


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1))
