"""How a conversation is to be continued: everything a caller may choose for one answer."""

from dataclasses import dataclass, field

from mistral_common.protocol.instruct.tool_calls import Tool, ToolChoice, ToolChoiceEnum

from magistral_mlx.conversation import History, Reasoning, SystemPolicy
from magistral_mlx.errors import RequestError
from magistral_mlx.guidance import Guidance, JsonSchema, ToolCalls
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
    tools: what the model may call. Calls are held to them, and strict ones to their parameters.
    tool_choice: whether it may, must or may not call one, or which one it must call.
    parallel_tool_calls: whether it may call several in one answer.
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
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoiceEnum.auto
    parallel_tool_calls: bool = True
    reasoning: Reasoning = "auto"
    history: History = "drop"
    system: SystemPolicy = "compose"

    @property
    def grammar(self) -> Guidance | None:
        """What the answer is held to: the guidance, the tools, or both.

        Raises RequestError for tools beside a grammar that is no JSON schema.
        """
        if not self.tools:
            if self.tool_choice not in (ToolChoiceEnum.auto, ToolChoiceEnum.none):
                raise RequestError(
                    "tool_choice asks for a call, but there are no tools: give some."
                )
            return self.guidance
        if self.guidance is None or isinstance(self.guidance, JsonSchema):
            return ToolCalls(
                self.tools, self.tool_choice, self.parallel_tool_calls, answer=self.guidance
            )
        raise RequestError("Tools and a grammar for the answer cannot be combined: give one.")
