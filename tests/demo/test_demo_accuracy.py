"""The accuracy that the demo's README promises, on the first of its 500 held-out questions."""

import pytest

import magistral_mlx
from magistral_mlx.convert import convert
from magistral_mlx.demo.expand import expand_demo
from magistral_mlx.evaluation.question_sets import open_question_set
from magistral_mlx.evaluation.run import draw_samples

QUESTIONS = 80
OPTIONS = magistral_mlx.GenerationOptions(
    sampling=magistral_mlx.SamplingParams(temperature=0), max_tokens=512, history="keep"
)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("converted", "least"), [(False, 0.97), (True, 0.95)])
def test_held_out_questions_are_answered(
    tmp_path_factory: pytest.TempPathFactory, *, converted: bool, least: float
) -> None:
    folder = tmp_path_factory.mktemp("nano") / "hf"
    expand_demo(folder)
    if converted:
        folder = convert(folder, folder.parent / "nano-4bit")
    tasks = [(question, 0) for question in open_question_set("demo", count=QUESTIONS).questions]
    with magistral_mlx.open_model(folder, dtype="float32") as model:
        samples = list(draw_samples(model, tasks, OPTIONS, 0, at_once=32))
    assert len(samples) == QUESTIONS
    assert sum(sample.right for sample in samples) / QUESTIONS >= least
