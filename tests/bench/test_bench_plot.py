"""The plot of tokens a second against context."""

import pytest
from matplotlib.figure import Figure

from magistral_mlx.bench.case_results import CaseResult
from magistral_mlx.bench.cases import Case
from magistral_mlx.bench.plot import _draw, _style
from magistral_mlx.bench.spread import Spread


@pytest.mark.parametrize("prompts", [(128, 40_000), (32_000, 40_000)])
def test_no_mark_is_cut_off_and_more_than_one_figure_is_named(prompts: tuple[int, int]) -> None:
    results = [result(prompt) for prompt in prompts]
    axes = Figure().subplots()
    _draw(axes, results, "blue", "o")
    _style(axes, results)
    assert axes.get_xlim()[0] == 0
    assert axes.get_xlim()[1] > 1.05 * prompts[-1]
    low, high = axes.get_ylim()
    assert len([place for place in axes.get_yticks() if low <= place <= high]) >= 3


def result(prompt: int) -> CaseResult:
    """Figures that lie within two decades, and the bound ten times above them."""
    spread = Spread(median=17, least=16, most=18)
    return CaseResult(
        case=Case(prompt=prompt, streams=1, kv_bits=16, tokens=64),
        prefill=spread,
        decode=spread,
        cold_first=spread,
        known_first=None,
        peak_bytes=1,
        bound=170,
        comparisons={},
    )
