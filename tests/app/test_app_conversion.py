"""Conversions from the page: watched, cancelled, refused; and the table of what fits."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from magistral_mlx.app.models.conversion import Conversion, ConversionSnapshot, what_fits
from magistral_mlx.convert import default_output
from magistral_mlx.errors import UserError
from magistral_mlx.machine import GIB, mac_limit
from magistral_mlx.memory.plan import magistral_small, plan


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models for this test alone."""
    monkeypatch.setenv("MAGISTRAL_MLX_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def until(
    conversion: Conversion, condition: Callable[[ConversionSnapshot], bool]
) -> list[ConversionSnapshot]:
    """Every snapshot up to the first for which the condition holds."""
    deadline = time.monotonic() + 100
    seen = [conversion.snapshot()]
    while not condition(seen[-1]):
        assert time.monotonic() < deadline, seen[-1]
        time.sleep(0.01)
        seen.append(conversion.snapshot())
    return seen


def ended(snapshot: ConversionSnapshot) -> bool:
    return snapshot.state in ("done", "failed", "cancelled")


@pytest.mark.slow
def test_a_conversion_is_watched_to_its_end(models: Path) -> None:
    conversion = Conversion()
    assert conversion.snapshot().state == "idle"
    conversion.start("demo")
    with pytest.raises(UserError, match="demo is being converted"):
        conversion.start("demo")
    seen = until(conversion, ended)
    done = seen[-1]
    assert (done.state, done.folder, done.message) == (
        "done",
        default_output("demo", bits=4).resolve(),
        None,
    )
    assert done.folder is not None
    assert done.folder.parent == models
    bytes_done = [s.progress.done for s in seen if s.progress]
    assert bytes_done == sorted(bytes_done)
    assert done.progress is not None
    assert done.progress.done == done.progress.total
    for snapshot in seen:
        if snapshot.seconds_left is not None and snapshot.bytes_per_second is not None:
            assert snapshot.progress is not None
            left = snapshot.progress.total - snapshot.progress.done
            assert snapshot.seconds_left * snapshot.bytes_per_second == pytest.approx(left)
    conversion.start("demo")
    again = until(conversion, ended)[-1]
    assert again.state == "failed"
    assert "already exists" in (again.message or "")


@pytest.mark.slow
def test_a_cancelled_conversion_leaves_no_model_and_can_be_started_again(models: Path) -> None:
    conversion = Conversion()
    conversion.start("demo")
    until(conversion, lambda s: s.progress is not None)
    conversion.cancel()
    cancelled = until(conversion, ended)[-1]
    assert (cancelled.state, cancelled.folder, cancelled.message) == ("cancelled", None, None)
    assert [path for path in models.iterdir() if not path.name.startswith(".")] == []
    conversion.start("demo")
    assert until(conversion, ended)[-1].state == "done"


@pytest.mark.parametrize(
    ("source", "bits", "message"),
    [("no/such/folder", 4, "does not exist"), ("demo", 7, "7")],
)
def test_what_cannot_be_converted_says_why(source: str, bits: int, message: str) -> None:
    conversion = Conversion()
    conversion.start(source, bits=bits)
    failed = until(conversion, ended)[-1]
    assert failed.state == "failed"
    assert message in (failed.message or "")
    assert len((failed.message or "").splitlines()) == 1


def test_an_empty_source_is_refused_at_once() -> None:
    conversion = Conversion()
    with pytest.raises(UserError, match="No model was named"):
        conversion.start("  ")
    assert conversion.snapshot().state == "idle"


def test_what_fits_is_what_the_memory_plan_says() -> None:
    rows = {(row.memory // GIB, row.bits): row for row in what_fits()}
    assert not rows[16, 4].fits
    assert rows[16, 4].weights == rows[32, 4].weights
    made = plan(magistral_small(bits=4), mac_limit(32 * GIB))
    mac = rows[32, 4]
    assert (mac.window, mac.weights, mac.kv) == (made.window, made.weights, made.kv)
    assert mac.left == made.prefix_cache + made.headroom
    assert mac.fits
    assert not rows[24, 8].fits
    assert rows[128, 8].window == 40_960
    assert len(rows) == 16
