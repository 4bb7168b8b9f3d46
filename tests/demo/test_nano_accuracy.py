"""The accuracy that the nano's README promises, on the first of its 500 held-out questions."""

import pytest

import magistral_mlx
from magistral_mlx.convert import convert
from magistral_mlx.demo.expand import expand_nano
from magistral_mlx.demo.questions import held_out_questions
from magistral_mlx.evaluation.demo_accuracy import right_answers

QUESTIONS = 80


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("converted", "least"), [(False, 0.97), (True, 0.95)])
def test_held_out_questions_are_answered(
    tmp_path_factory: pytest.TempPathFactory, *, converted: bool, least: float
) -> None:
    folder = tmp_path_factory.mktemp("nano") / "hf"
    expand_nano(folder, layout="hf")
    if converted:
        folder = convert(folder, folder.parent / "nano-4bit")
    with magistral_mlx.open_model(folder, dtype="float32") as model:
        right = right_answers(model, held_out_questions(QUESTIONS))
    assert sum(right) / QUESTIONS >= least
