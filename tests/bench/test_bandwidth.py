"""The bound of decoding, what is measured and what is left out, and predictions."""

from pathlib import Path

import pytest

from magistral_mlx.bench.bandwidth import (
    choose_chips,
    decode_bound,
    decode_weight_bytes,
    measure_bandwidth,
    predict,
    published_chips,
    step_bytes_read,
)
from magistral_mlx.bench.bench_model import synthetic_model
from magistral_mlx.bench.cases import Axes, Case, parse_numbers
from magistral_mlx.bench.report_parts import power_mode, read_power_mode, this_machine
from magistral_mlx.bench.spread import Spread
from magistral_mlx.engine.kv_budget import kv_budget
from magistral_mlx.errors import RequestError
from magistral_mlx.machine import GIB, mac_limit
from magistral_mlx.memory.plan import MemoryPlanError, magistral_small

SHORT = Case(prompt=1, streams=1, kv_bits=16, tokens=16)
PMSET = """System-wide power settings:
Currently in use:
 standby              1
 {name}             {value}
 displaysleep         10
"""


def test_a_token_of_magistral_reads_what_the_model_card_says() -> None:
    config = magistral_small()
    assert decode_weight_bytes(config, "bfloat16") / 1e9 == pytest.approx(12.88, abs=0.01)
    long = Case(prompt=40_000, streams=1, kv_bits=16, tokens=64)
    kv = step_bytes_read(config, "bfloat16", long) - decode_weight_bytes(config, "bfloat16")
    assert kv == 163_840 * 40_032
    quantised = Case(prompt=40_000, streams=1, kv_bits=8, tokens=64)
    kv = step_bytes_read(config, "bfloat16", quantised) - decode_weight_bytes(config, "bfloat16")
    assert kv == 87_040 * 40_032


@pytest.mark.parametrize(
    ("chip", "rate"), [("M4", 9.3), ("M4 Pro", 21.2), ("M1 Max", 31), ("M3 Ultra", 64)]
)
def test_bounds_are_those_of_the_model_card(chip: str, rate: float) -> None:
    (found,) = (each for each in published_chips() if each.name == chip)
    bound = decode_bound(magistral_small(), "bfloat16", SHORT, bandwidth=found.bandwidth)
    assert bound == pytest.approx(rate, rel=0.01)
    assert predict(magistral_small(), SHORT, found, reached=0.8) == pytest.approx(0.8 * bound)


def test_streams_share_the_reading_of_the_weights_but_not_of_their_kv() -> None:
    config = magistral_small()
    one, eight = (Case(prompt=4_000, streams=n, kv_bits=16, tokens=64) for n in (1, 8))
    weights = decode_weight_bytes(config, "bfloat16")
    kv = step_bytes_read(config, "bfloat16", one) - weights
    assert step_bytes_read(config, "bfloat16", eight) == weights + 8 * kv
    rates = [decode_bound(config, "bfloat16", case, bandwidth=1e11) for case in (one, eight)]
    assert 5 < rates[1] / rates[0] < 8


def test_each_dimension_varies_by_itself_unless_all_combinations_are_asked_for() -> None:
    axes = Axes(prompts=[128, 1_000, 4_000], streams=[1, 4], kv_bits=[16, 8], tokens=16)
    assert [(case.prompt, case.streams, case.kv_bits) for case in axes.cases()] == [
        (128, 1, 16),
        (1_000, 1, 16),
        (4_000, 1, 16),
        (1_000, 4, 16),
        (1_000, 1, 8),
    ]
    every = Axes(prompts=[128, 1_000], streams=[1, 4], kv_bits=[16, 8], tokens=16, every=True)
    assert len(set(every.cases())) == 8


def test_what_does_not_fit_is_said_with_the_numbers() -> None:
    kv = kv_budget(magistral_small(), "bfloat16", limit=2_000_000_000)
    fits = Case(prompt=4_000, streams=1, kv_bits=16, tokens=64)
    assert fits.misfit(window=40_960, kv=kv) is None
    long = Case(prompt=40_960, streams=1, kv_bits=16, tokens=64)
    assert long.misfit(window=40_960, kv=kv) == "41,024 tokens, and the window holds 40,960"
    many = Case(prompt=4_000, streams=4, kv_bits=16, tokens=64)
    assert many.misfit(window=40_960, kv=kv) == "2.7 GB of KV, and there is room for 2.0 GB"
    smaller = Case(prompt=4_000, streams=4, kv_bits=8, tokens=64)
    assert smaller.misfit(window=40_960, kv=kv) is None


def test_made_up_weights_of_24b_are_refused_with_numbers_where_they_do_not_fit() -> None:
    with (
        pytest.raises(MemoryPlanError, match=r"weights 1[34]\.\d GB.* the limit is 11\.5 GB"),
        synthetic_model("24b", limit=mac_limit(16 * GIB)),
    ):
        pass
    with pytest.raises(RequestError, match="choose 24b or small"), synthetic_model("70b"):
        pass


def test_numbers_are_read_and_anything_else_is_refused() -> None:
    assert parse_numbers("128, 1k,4K,128", option="--prompts") == [128, 1_000, 4_000]
    for text in ("", "1m", "1,,2", "0", "-1"):
        with pytest.raises(RequestError, match="--prompts"):
            parse_numbers(text, option="--prompts")


def test_chips_are_chosen_by_how_they_begin() -> None:
    assert [chip.name for chip in choose_chips("m3 max")] == [
        "M3 Max, 30 GPU cores",
        "M3 Max, 40 GPU cores",
    ]
    assert choose_chips("none") == []
    assert len(choose_chips("all")) == len(published_chips())
    with pytest.raises(RequestError, match="M4 Pro"):
        choose_chips("M99")


@pytest.mark.parametrize(
    ("name", "value", "mode"),
    [
        ("lowpowermode", 0, "automatic"),
        ("lowpowermode", 1, "low power"),
        ("powermode", 2, "high power"),
        ("sleep", 1, None),
    ],
)
def test_the_power_mode_is_that_of_pmset(name: str, value: int, mode: str | None) -> None:
    assert read_power_mode(PMSET.format(name=name, value=value)) == mode


def test_elsewhere_than_on_macos_there_is_no_power_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    assert power_mode() is None
    assert this_machine().chip


def test_pmset_is_asked_on_macos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "pmset"
    script.write_text(f"#!/bin/sh\ncat <<END\n{PMSET.format(name='powermode', value=1)}END\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    assert power_mode() == "low power"


def test_a_spread_is_the_median_and_half_the_range() -> None:
    spread = Spread.of([9.0, None, 10.0, 12.0])
    assert spread == Spread(10.0, 9.0, 12.0)
    assert spread.text() == "10.0 ±15%"
    assert Spread(2_345.6, 2_345.6, 2_345.6).text() == "2,346"
    assert Spread.of([None]) is None


def test_bandwidth_is_bytes_over_the_time_of_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    found = measure_bandwidth(limit=80_000_000, passes=3)
    assert found.array_bytes == 10_000_000
    assert 1e8 < found.median <= found.fastest < 1e13
    # If every pass takes a second, the rate is the bytes of the array.
    clock = iter(range(100))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    assert measure_bandwidth(limit=80_000_000, passes=3).fastest == 10_000_000
