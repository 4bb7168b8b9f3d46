"""One output's tokens as events: split, cut at stop strings, with their log-probabilities."""

from collections import deque
from collections.abc import Sequence

from magistral_mlx.events import AnswerText, ReasoningText, TokenLogprob, ToolCallEvent
from magistral_mlx.text.reasoning import Delta, OutputParser, OutputState
from magistral_mlx.text.stop_strings import StopStrings
from magistral_mlx.text.tokenizer import Tokenizer
from magistral_mlx.text.tool_calls import Piece, ToolCallParser

TextEvent = ReasoningText | AnswerText | ToolCallEvent


class OutputText:
    """Tokens in, events of text and tool calls out.

    Stop strings are looked for in the answer only, not in tool calls. The log-probability of a
    token comes with the piece of text that the token completes, or that holds its beginning where
    a stop string cuts it. Those of think tags, of tool calls and behind the cut are in no event.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        state: OutputState = "auto",
        stop: Sequence[str] = (),
        tool_calls: bool = True,
    ) -> None:
        """Start before the first token; `state` and `tool_calls` as for OutputParser."""
        self._parser = OutputParser(tokenizer, state=state, tool_calls=tool_calls)
        self._calls = ToolCallParser()
        self._stop = StopStrings(stop)
        self._waiting: list[TokenLogprob] = []  # of tokens that have not completed any text
        self._behind_tag = False
        # Of each piece of the answer that is not told yet: characters, and what comes with it.
        self._held: deque[tuple[int, list[TokenLogprob]]] = deque()

    @property
    def state(self) -> OutputState:
        """Where the output stands after the tokens pushed so far."""
        return self._parser.state

    @property
    def reasoning_tokens(self) -> int:
        """See OutputParser."""
        return self._parser.reasoning_tokens

    @property
    def stop_string(self) -> str | None:
        """The stop string that the answer came to; nothing is told after it."""
        return self._stop.found

    def push(
        self, token: int, *, logprob: TokenLogprob | None = None, may_stop: bool = True
    ) -> list[TextEvent]:
        """What this token completes; `may_stop`: its text may be of a stop string."""
        before = self._parser.state
        deltas = self._parser.push(token)
        arrived = [] if logprob is None else [logprob]
        if before != self.state and "reasoning" in (before, self.state):
            return self._pass_tag(deltas, arrived, may_stop=may_stop)
        if not (self._behind_tag and not deltas and _only_newlines(arrived)):
            self._waiting += arrived
        return self._tell(deltas, may_stop=may_stop)

    def finish(self) -> list[TextEvent]:
        """What was held back."""
        events = self._tell(self._parser.finish(), may_stop=True)
        events += self._tell_call(self._calls.finish(), may_stop=True)
        return events + self._tell_answer(self._stop.finish())

    def _pass_tag(
        self, deltas: list[Delta], arrived: list[TokenLogprob], *, may_stop: bool
    ) -> list[TextEvent]:
        """A tag is complete. Its last token may hold the first text of the next part as well."""
        events = self._tell([d for d in deltas if d.kind != self.state], may_stop=may_stop)
        rest = [d for d in deltas if d.kind == self.state]
        self._waiting = arrived if rest else []
        self._behind_tag = self.state == "answer"
        return events + self._tell(rest, may_stop=may_stop)

    def _tell(self, deltas: list[Delta], *, may_stop: bool) -> list[TextEvent]:
        events: list[TextEvent] = []
        for delta in deltas:
            logprobs, self._waiting = self._waiting, []
            if delta.kind == "reasoning":
                events.append(ReasoningText(delta.text, tuple(logprobs)))
            elif delta.kind == "answer":
                events += self._show(delta.text, logprobs, may_stop=may_stop)
            elif delta.kind == "control":
                events += self._tell_call(self._calls.control(delta.text), may_stop=may_stop)
            else:
                events += self._tell_call(self._calls.text(delta.text), may_stop=may_stop)
        return events

    def _tell_call(self, pieces: Sequence[Piece], *, may_stop: bool) -> list[TextEvent]:
        events: list[TextEvent] = []
        for piece in pieces:
            if isinstance(piece, str):
                events += self._show(piece, [], may_stop=may_stop)
            elif self._stop.found is None:
                # What is held back before a call does not become a stop string any more.
                events += [*self._tell_answer(self._stop.finish()), piece]
        return events

    def _show(self, text: str, logprobs: list[TokenLogprob], *, may_stop: bool) -> list[TextEvent]:
        self._behind_tag = False
        self._held.append((len(text), logprobs))
        return self._tell_answer(self._stop.push(text) if may_stop else text)

    def _tell_answer(self, text: str) -> list[TextEvent]:
        """An event for the next characters of the answer, if there are any."""
        if not text:
            return []
        logprobs: list[TokenLogprob] = []
        left = len(text)
        while left > 0:
            characters, waiting = self._held.popleft()
            logprobs += waiting
            if characters > left:
                self._held.appendleft((characters - left, []))
            left -= characters
        return [AnswerText(text, tuple(logprobs))]


def _only_newlines(arrived: list[TokenLogprob]) -> bool:
    """Whether a token is nothing but newlines, which belong to the tag before it."""
    return all(not logprob.text.strip(b"\n") for logprob in arrived)
