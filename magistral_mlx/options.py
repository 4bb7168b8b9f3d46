"""How a conversation is to be continued: everything a caller may choose for one answer."""

from dataclasses import dataclass, field

from magistral_mlx.conversation import History, Reasoning, SystemPolicy
from magistral_mlx.guidance import Guidance
from magistral_mlx.request import ANSWER_RESERVE
from magistral_mlx.sampling import SamplingParams


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """Options of one answer; the defaults are the model card's.

    sampling: temperature, top_p and the others, penalties and biases.
    max_tokens: most tokens of output, reasoning included; None: what the window holds.
    thinking_budget: most tokens of reasoning, which is then closed by force; None: no budget.
    answer_reserve: tokens of the window that reasoning leaves to the answer.
    stop_repetition: end reasoning, or else the output, that only repeats itself.
    stop: strings that end the answer and are no part of it; in reasoning they mean nothing.
    min_tokens: of output, reasoning included, before the end token or a stop string ends it.
    ignore_eos: the end token is a token like any other, and gives no text.
    logprobs: have the log-probability of every drawn token, with so many alternatives (0 to 20);
        None: have none.
    guidance: a grammar that the answer follows (guidance.py); the reasoning before it stays free.
    reasoning, history, system: see `magistral_mlx.conversation.build_prompt`.
    """

    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_tokens: int | None = None
    thinking_budget: int | None = None
    answer_reserve: int = ANSWER_RESERVE
    stop_repetition: bool = True
    stop: tuple[str, ...] = ()
    min_tokens: int = 0
    ignore_eos: bool = False
    logprobs: int | None = None
    guidance: Guidance | None = None
    reasoning: Reasoning = "auto"
    history: History = "drop"
    system: SystemPolicy = "compose"
