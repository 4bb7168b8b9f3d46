"""Sweeps: their axes, their table where a point is unfinished, their plot."""

from pathlib import Path

import pytest
from rich.console import Console

from magistral_mlx.errors import CheckpointError, UserError
from magistral_mlx.evaluation.question import QuestionSet
from magistral_mlx.evaluation.report import EvaluationReport
from magistral_mlx.evaluation.request import model_at_bits
from magistral_mlx.evaluation.results import compute_results
from magistral_mlx.evaluation.sample import Sample
from magistral_mlx.evaluation.statistics import Estimate
from magistral_mlx.evaluation.sweep import EvaluatedSweep, SweptPoint
from magistral_mlx.evaluation.sweep_axes import SweepPoint, parse_axes
from magistral_mlx.evaluation.sweep_plot import PlotPoint, draw_sweep
from tests.evaluation.eval_samples import SETTINGS, make_question, make_sample


def test_every_combination_is_a_point_and_those_of_the_same_weights_come_together() -> None:
    axes = parse_axes(["kv=16,4", "bits=3,4 budget=none"])
    assert [(p.bits, p.kv, p.budget) for p in axes.points()] == [
        (3, 16, "none"),
        (3, 4, "none"),
        (4, 16, "none"),
        (4, 4, "none"),
    ]
    assert axes.varied == ["kv", "bits"]
    assert len({point.name for point in axes.points()}) == 4


def test_an_axis_that_is_not_named_is_left_as_it_is() -> None:
    assert parse_axes(["budget=256,256,none"]).points() == [
        SweepPoint(None, None, 256),
        SweepPoint(None, None, "none"),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bits"], "'bits' is not an axis"),
        (["bits=4", "bits=8"], "bits is swept twice"),
        (["kv=5"], "kv=5 cannot be swept: kv takes 16, 8, 4"),
        (["kv=none"], "kv=none cannot be swept"),
        (["budget=few"], "budget takes numbers of tokens, or none"),
        (["bits="], "bits= cannot be swept"),
    ],
)
def test_what_cannot_be_swept_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_axes(words)


def test_conversions_at_other_bits_lie_beside_the_model(tmp_path: Path) -> None:
    (tmp_path / "Small-2506-4bit").mkdir()
    (tmp_path / "Small-2506-3bit").mkdir()
    choice = str(tmp_path / "Small-2506-4bit")
    assert model_at_bits(choice, 3) == tmp_path / "Small-2506-3bit"
    assert model_at_bits(choice, None) == choice
    with pytest.raises(CheckpointError, match=r"no Small-2506-8bit .* --bits 8"):
        model_at_bits(choice, 8)


def swept(point: SweepPoint, samples: list[Sample]) -> SweptPoint:
    questions = (make_question("a"), make_question("b"))
    results = compute_results(questions, samples, k=2)
    asked = QuestionSet("mine", "Mine", "mine.jsonl", questions)
    return SweptPoint(point, EvaluationReport("eval", asked, SETTINGS, results, []))


def test_a_point_that_was_interrupted_keeps_its_columns(tmp_path: Path) -> None:
    whole = [make_sample(name, index, right=True) for name in "ab" for index in (0, 1)]
    points = [swept(SweepPoint(kv=16), whole), swept(SweepPoint(kv=4), [])]
    axes = parse_axes(["kv=16,4"])
    sweep = EvaluatedSweep(title="Mine", command="eval", axes=axes, points=points, folder=tmp_path)
    sweep.write()
    page = sweep.page.read_text()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")]
    assert len(rows) == 4
    assert {len(row) for row in rows} == {10}
    assert rows[2][3:7] == ["100.0", "34.2–100.0", "100.0", "34.2–100.0"]
    assert rows[3][3:8] == ["–", "", "–", "", "0 of 4"]
    with (tmp_path / "out").open("w") as file:
        console = Console(file=file, width=150)
        console.print(sweep.view())
    assert "0 of 4" in (tmp_path / "out").read_text()


@pytest.mark.parametrize("varied", [[], ["kv"], ["budget", "bits"], ["bits", "kv", "budget"]])
def test_a_plot_is_drawn_for_any_number_of_axes(tmp_path: Path, varied: list[str]) -> None:
    values = {"bits": ["3 bits", "4 bits"], "kv": ["16 bits", "4 bits"], "budget": ["9", "none"]}
    points = [
        PlotPoint({"bits": b, "kv": kv, "budget": budget}, Estimate(0.5, 0.4, 0.6, "Wilson"))
        for b in values["bits"][: 2 if "bits" in varied else 1]
        for kv in values["kv"][: 2 if "kv" in varied else 1]
        for budget in values["budget"][: 2 if "budget" in varied else 1]
    ]
    draw_sweep([*points, PlotPoint(points[0].labels, None)], varied, tmp_path, title="Mine")
    svg = (tmp_path / "sweep.svg").read_text()
    # Text is drawn as paths, and named in comments.
    assert "<!-- pass@1, %, with 95 % interval -->" in svg
    for axis in varied:
        assert all(f"{value} -->" in svg for value in values[axis])
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
