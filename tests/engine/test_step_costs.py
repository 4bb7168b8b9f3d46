"""Step costs: how many prompt tokens may ride along, and that they are timed once and kept."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.engine.step_costs import (
    ATTENDED,
    ATTENDING,
    LEAST_CHUNK,
    StepCosts,
    known_step_costs,
    measure_step_costs,
)
from magistral_mlx.model.decoder import Decoder, load_decoder
from tests.sample_checkpoints import write_hf

LINEAR = StepCosts((1, 64, 512), (1.0, 1.63, 6.11))  # 1 second and 0.01 more for each token


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Decoder:
    return load_decoder(open_checkpoint(write_hf(tmp_path_factory.mktemp("tiny") / "tiny")))


def test_costs_between_and_beyond_the_measured_ones_are_in_proportion() -> None:
    assert LINEAR.of(1) == 1.0
    assert LINEAR.of(33) == pytest.approx(1.32)
    assert LINEAR.of(512) == pytest.approx(6.11)
    assert LINEAR.of(600) == pytest.approx(6.99)


@pytest.mark.parametrize("decoding", [1, 2, 8])
def test_a_chunk_at_most_doubles_the_step(decoding: int) -> None:
    chunk = LINEAR.chunk([100] * decoding, behind=0, most=512)
    assert LINEAR.of(decoding + chunk) <= 2 * LINEAR.of(decoding) < LINEAR.of(decoding + chunk + 1)


@pytest.mark.parametrize("decoding", [(1,), (5_000, 9), (300, 40_000, 7)])
@pytest.mark.parametrize("behind", [0, 64, 4_000, 40_000])
def test_a_chunk_at_most_doubles_the_step_wherever_it_attends(
    decoding: tuple[int, ...], behind: int
) -> None:
    costs = replace(LINEAR, attention=1e-5)
    alone = costs.of(len(decoding)) + 1e-5 * sum(decoding)

    def joined(chunk: int) -> float:
        """By counting every position that every token attends to."""
        positions = sum(behind + i for i in range(chunk))
        return costs.of(len(decoding) + chunk) + 1e-5 * (sum(decoding) + positions)

    chunk = costs.chunk(decoding, behind=behind, most=512)
    assert chunk < LINEAR.chunk(decoding, behind=behind, most=512) or sum(decoding) > 1_000
    if chunk > LEAST_CHUNK:
        assert joined(chunk) <= 2 * alone
    assert joined(chunk + 2) > 2 * alone


def test_what_attention_costs_is_measured_behind_a_long_beginning(decoder: Decoder) -> None:
    costs = measure_step_costs(decoder, largest=64)
    # A quarter of a million products for each of few tokens are more than noise.
    assert 0 < costs.attention * ATTENDING * ATTENDED < 100 * costs.of(ATTENDING)


def test_a_chunk_has_bounds_of_its_own() -> None:
    steep = StepCosts((1, 512), (1.0, 512.0))
    flat = StepCosts((1, 512), (1.0, 1.1))
    assert LINEAR.chunk([], behind=0, most=512) == 512
    assert steep.chunk([9], behind=0, most=512) == LEAST_CHUNK
    assert flat.chunk([9], behind=0, most=512) == 512
    assert flat.chunk([9], behind=0, most=10) == 10


def test_measured_costs_rise_with_the_tokens(decoder: Decoder) -> None:
    costs = measure_step_costs(decoder, largest=100)
    assert costs.tokens == (1, 2, 4, 8, 16, 32, 64, 100)
    assert list(costs.seconds) == sorted(costs.seconds)
    assert costs.seconds[-1] > costs.seconds[0] > 0


def test_costs_are_measured_once_and_kept(decoder: Decoder, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    first = known_step_costs(decoder, fingerprint="a" * 64, largest=8, folder=folder)
    again = known_step_costs(decoder, fingerprint="a" * 64, largest=8, folder=folder)
    other = known_step_costs(decoder, fingerprint="b" * 64, largest=8, folder=folder)
    assert again == first
    assert other != first
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        '{"tokens": [1, 2], "seconds": [2, -1], "attention": 0}',
        '{"tokens": [1, 2], "seconds": [1, 2], "attention": -1}',
        '{"tokens": [1, 2], "seconds": [1, 2]}',
        '{"tokens": 1, "seconds": 2, "attention": 0}',
    ],
)
def test_damaged_costs_are_measured_again(decoder: Decoder, tmp_path: Path, content: str) -> None:
    known_step_costs(decoder, fingerprint="a" * 64, largest=4, folder=tmp_path)
    [path] = tmp_path.iterdir()
    path.write_text(content)
    costs = known_step_costs(decoder, fingerprint="a" * 64, largest=4, folder=tmp_path)
    assert costs.tokens == (1, 2, 4)
    assert json.loads(path.read_text())["tokens"] == [1, 2, 4]


def test_a_folder_that_cannot_be_written_is_no_error(decoder: Decoder, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    costs = known_step_costs(decoder, fingerprint="a" * 64, largest=4, folder=blocked / "below")
    assert costs.tokens == (1, 2, 4)
