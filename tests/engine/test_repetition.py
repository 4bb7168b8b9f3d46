"""What counts as an endless loop, and what does not."""

import random

import pytest

from magistral_mlx.engine.repetition import EVERY, LEAST_TOKENS, LONGEST_PERIOD, REPEATS, is_looping


def first_alarm(tokens: list[int], *, start: int = 0) -> int | None:
    """The length at which a stream of tokens is first called a loop."""
    lengths = range(start + 1, len(tokens) + 1)
    return next((n for n in lengths if is_looping(tokens[:n], start=start)), None)


@pytest.mark.parametrize("period", [1, 2, 7, 63, 200, LONGEST_PERIOD])
def test_a_loop_is_noticed_soon_after_it_has_gone_round_often_enough(period: int) -> None:
    rng = random.Random(period)
    before = [rng.randrange(1000) for _ in range(300)]
    loop = [rng.randrange(1000) for _ in range(period)]
    span = max(REPEATS * period, LEAST_TOKENS)
    alarm = first_alarm(before + loop * (1 + (span + 2 * EVERY) // period))
    assert alarm is not None
    assert 300 + span <= alarm <= 300 + span + period + EVERY


def test_text_that_does_not_repeat_is_no_loop() -> None:
    rng = random.Random(1)
    assert first_alarm([rng.randrange(50) for _ in range(3000)]) is None


def test_a_loop_that_goes_on_differently_is_forgotten() -> None:
    rng = random.Random(2)
    tokens = [7] * (LEAST_TOKENS - 1) + [rng.randrange(1000) for _ in range(1000)]
    assert first_alarm(tokens) is None


def test_a_list_whose_numbers_count_up_is_no_loop() -> None:
    tokens = [token for number in range(400) for token in (10, 11, 100 + number, 12)]
    assert first_alarm(tokens) is None


def test_the_prompt_does_not_count() -> None:
    assert first_alarm([5] * (2 * LEAST_TOKENS - EVERY), start=LEAST_TOKENS) is None
