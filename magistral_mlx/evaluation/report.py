"""The report of a run, in Markdown for people and in JSON for programs."""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

from magistral_mlx.evaluation.language_share import LanguageShare
from magistral_mlx.evaluation.question import QuestionSet
from magistral_mlx.evaluation.results import Results
from magistral_mlx.evaluation.results_view import PUBLISHED, language_row, percent, result_rows
from magistral_mlx.evaluation.run_folder import RunSettings
from magistral_mlx.spec import VERSION

MARKDOWN_FILE = "report.md"
JSON_FILE = "report.json"


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """A run's questions, settings and figures; command: the command line that repeats it."""

    command: str
    questions: QuestionSet
    settings: RunSettings
    results: Results
    languages: Sequence[LanguageShare]

    def write(self, folder: Path) -> None:
        """Write report.md and report.json, replacing older ones."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARKDOWN_FILE).write_text(self.markdown(), encoding="utf-8")
        write_json(folder / JSON_FILE, self.fields())

    def fields(self) -> dict[str, object]:
        """The report for JSON; shares are from 0 to 1."""
        return {
            **origin_fields(self.command),
            "questions": {"title": self.questions.title, "origin": self.questions.origin},
            "settings": asdict(self.settings),
            "results": asdict(self.results),
            "languages": [asdict(share) for share in self.languages],
            "published": [asdict(each) for each in PUBLISHED.get(self.questions.name, ())],
        }

    def markdown(self) -> str:
        """A page with the tables that the terminal shows, and how they were measured."""
        rows = [
            (f"**{name}**" if style == "bold" else name.strip(), *columns)
            for style, (name, *columns) in result_rows(self.questions, self.results)
        ]
        parts = [
            f"# {self.questions.title}, {self.settings.model}",
            f"    {self.command}",
            self._state(),
            markdown_table(("", "right, %", "95 % interval", "by", "questions"), rows),
        ]
        if self.languages:
            part = "95 % interval", "texts"
            header = ("", "reasoning, %", *part, "answer, %", *part, "otherwise")
            shares = [language_row(share) for share in self.languages]
            parts += ["## In the language of the question", markdown_table(header, shares)]
        parts += ["## How", self._how()]
        return "\n\n".join(parts) + "\n"

    def _state(self) -> str:
        results = self.results
        state = "All" if results.finished else "**Unfinished**:"
        return (
            f"{state} {results.done:,} of {results.wanted:,} samples, {results.k} of each of "
            f"{results.questions:,} questions ({self.questions.origin}). "
            f"{results.mean_tokens:,.0f} tokens a sample, {results.mean_reasoning_tokens:,.0f} of "
            f"them reasoning, which was closed by force in {percent(results.forced)} %. "
            f"{percent(results.unanswered)} % have no result to grade."
        )

    def _how(self) -> str:
        sources = {each.source for each in PUBLISHED.get(self.questions.name, ())}
        settings = ", ".join(f"{name} {value}" for name, value in asdict(self.settings).items())
        lines = [
            f"- Settings: {settings}.",
            "- pass@1 is the mean over questions of the share of right samples; pass@k is "
            "Chen et al.'s unbiased estimator; maj@k grades the most frequent answer.",
            "- Intervals are over questions: Wilson's if every score is 0 or 1, otherwise a "
            "bootstrap of 10,000 draws.",
            *(f"- Published: {source}." for source in sorted(sources)),
            f"- {measured_on()}.",
        ]
        return "\n".join(lines)


def measured_on() -> str:
    """Date, machine and versions in one line."""
    numbers = ", ".join(f"{name} {number}" for name, number in _versions().items())
    return f"{date.today().isoformat()}, {_machine()}; {numbers}"


def origin_fields(command: str) -> dict[str, object]:
    """The same for JSON, with the command line."""
    return {
        "command": command,
        "date": date.today().isoformat(),
        "machine": _machine(),
        "versions": _versions(),
    }


def write_json(path: Path, value: object) -> None:
    """Write indented JSON, with non-ASCII characters unescaped."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    path.write_text(text + "\n", encoding="utf-8")


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with its named columns set to the right."""
    marks = ["---" if not name else "---:" for name in header]
    lines = [header, marks, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _machine() -> str:
    return f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"


def _versions() -> dict[str, str]:
    """Of the packages that the figures depend on."""
    packages = ("mlx", "mistral-common", "math-verify", "py3langid")
    return {"magistral-mlx": VERSION} | {name: version(name) for name in packages}
