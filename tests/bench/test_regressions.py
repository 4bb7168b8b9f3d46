"""What `make bench` holds: exact counts, which CI checks here, and host time within its noise."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from magistral_mlx.bench.counts import count_everything
from magistral_mlx.bench.host_time import HostTime, host_time, measure_host_time
from magistral_mlx.bench.regressions import StoredFigures
from magistral_mlx.errors import UserError
from magistral_mlx.kv.prefix_cache import PrefixCache

FILE = Path(__file__).parents[2] / "benchmarks" / "bounds.json"
STORED = StoredFigures({"steps": 27, "tokens_a_step": 79.4}, {1: 1.2})


def test_counts_are_those_that_are_stored(tmp_path: Path) -> None:
    assert StoredFigures.read(FILE).wrong_counts(count_everything(tmp_path)) == []


def test_without_prefix_reuse_the_counts_are_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PrefixCache, "take", lambda *_, **__: None)
    monkeypatch.setattr("magistral_mlx.bench.counts.PATIENCE", 0.5)
    wrong = StoredFigures.read(FILE).wrong_counts(count_everything(tmp_path))
    assert "prefilled_known_prompt: 300 instead of 1, worse" in wrong
    assert any(line.startswith("prefilled_second_turn") and "worse" in line for line in wrong)


def test_a_count_that_differs_is_named_with_what_to_do() -> None:
    assert STORED.wrong_counts({"steps": 27, "tokens_a_step": 79.4}) == []
    assert STORED.wrong_counts({"steps": 30, "tokens_a_step": 71.5}) == [
        "steps: 30 instead of 27, worse",
        "tokens_a_step: 71.5 instead of 79.4, worse",
    ]
    assert STORED.wrong_counts({"steps": 20, "tokens_a_step": 79.4}) == [
        "steps: 20 instead of 27, better: store it with --renew"
    ]
    assert STORED.wrong_counts({"steps": 27}) == [
        "tokens_a_step: None measured, 79.4 stored: store it with --renew"
    ]


def test_host_time_may_be_worse_by_its_noise_and_no_more() -> None:
    time = HostTime(ours=0.01, theirs=0.011, ratio=1.1, noise=0.11)
    assert STORED.slow_host({1: time}) == []
    (line,) = STORED.slow_host({1: replace(time, noise=0.09)})
    assert "1.10 times ours, noise 0.09; the bound is 1.20" in line


def test_the_noise_is_of_the_middle_half_and_one_wild_round_does_not_count() -> None:
    ours, theirs = [1.0] * 5, [1.2, 1.3, 1.4, 1.5, 9.0]
    found = host_time(ours, theirs)
    assert found.ratio == pytest.approx(1.4)
    assert found.noise == pytest.approx(0.1)


def test_bounds_are_read_as_they_were_written(tmp_path: Path) -> None:
    STORED.write(tmp_path / "bounds.json")
    assert StoredFigures.read(tmp_path / "bounds.json") == STORED
    (tmp_path / "bounds.json").write_text(json.dumps({"counts": {}}))
    with pytest.raises(UserError, match="--renew"):
        StoredFigures.read(tmp_path / "bounds.json")


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_host_time_is_measured_beside_mlx_lm_for_one_stream_and_for_eight(tmp_path: Path) -> None:
    runs: list[None] = []
    found = measure_host_time(tmp_path, rounds=1, done=lambda: runs.append(None))
    assert set(found) == {1, 8}
    assert len(runs) == 8
    assert all(time.ours > 0 and time.theirs > 0 for time in found.values())
    # What a step costs is shared by its streams.
    assert found[8].ours < found[1].ours
