"""The text of one output: decoded, cut at a stop string, with tool calls and log-probabilities."""

import codecs
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from magistral_mlx.events import AnswerText, ReasoningText, TokenLogprob, ToolCallEvent
from magistral_mlx.text.reasoning import OutputState, SplitBytes, SplitKind
from magistral_mlx.text.tool_calls import Piece, ToolCallParser

TextEvent = ReasoningText | AnswerText | ToolCallEvent


@dataclass(frozen=True, slots=True)
class OutputToken:
    """One token of an output, split but not yet decoded.

    pieces: the bytes that it completed; before, after: the state of the output around it.
    may_stop: whether its text may be part of a stop string.
    """

    pieces: Sequence[SplitBytes]
    before: OutputState
    after: OutputState
    logprob: TokenLogprob | None = None
    may_stop: bool = True


@dataclass(frozen=True, slots=True)
class Delta:
    """Decoded text of one kind; never empty."""

    kind: SplitKind
    text: str


class OutputEvents:
    """Makes events of the tokens of one output.

    Stop strings count in the answer only, not in tool calls. The log-probability of a token comes
    with the text that the token completes, or with the text that holds its beginning if a stop
    string cuts it. Log-probabilities of think tags, of tool calls and of tokens after a stop
    string are dropped.
    """

    def __init__(self, *, stop: Sequence[str] = ()) -> None:
        """Start before the first token."""
        self._decoder = TextDecoder()
        self._calls = ToolCallParser()
        self._stop = StopStrings(stop)
        self._waiting: list[TokenLogprob] = []  # of tokens that have not completed any text
        self._behind_tag = False
        # For each piece of the answer not yet shown: characters, and its log-probabilities.
        self._held: deque[tuple[int, list[TokenLogprob]]] = deque()

    @property
    def stop_string(self) -> str | None:
        """The stop string that ended the answer, if one did. No text follows it."""
        return self._stop.found

    def push(self, token: OutputToken) -> list[TextEvent]:
        """The events that this token completes."""
        deltas = self._decoder.decode(token.pieces)
        arrived = [] if token.logprob is None else [token.logprob]
        if token.before != token.after and "reasoning" in (token.before, token.after):
            return self._pass_tag(deltas, arrived, token)
        if not (self._behind_tag and not deltas and _only_newlines(arrived)):
            self._waiting += arrived
        return self._events(deltas, may_stop=token.may_stop)

    def finish(self, pieces: Sequence[SplitBytes]) -> list[TextEvent]:
        """The last events, for the bytes that the splitter held back."""
        events = self._events(self._decoder.decode(pieces), may_stop=True)
        events += self._call_events(self._calls.finish(), may_stop=True)
        return events + self._answer_events(self._stop.finish())

    def _pass_tag(
        self, deltas: list[Delta], arrived: list[TokenLogprob], token: OutputToken
    ) -> list[TextEvent]:
        """A tag is complete. Its last token may also hold the first text of the next part."""
        old = [delta for delta in deltas if delta.kind != token.after]
        new = [delta for delta in deltas if delta.kind == token.after]
        events = self._events(old, may_stop=token.may_stop)
        self._waiting = arrived if new else []
        self._behind_tag = token.after == "answer"
        return events + self._events(new, may_stop=token.may_stop)

    def _events(self, deltas: list[Delta], *, may_stop: bool) -> list[TextEvent]:
        events: list[TextEvent] = []
        for delta in deltas:
            logprobs, self._waiting = self._waiting, []
            if delta.kind == "reasoning":
                events.append(ReasoningText(delta.text, tuple(logprobs)))
            elif delta.kind == "answer":
                events += self._add_answer(delta.text, logprobs, may_stop=may_stop)
            elif delta.kind == "control":
                events += self._call_events(self._calls.control(delta.text), may_stop=may_stop)
            else:
                events += self._call_events(self._calls.text(delta.text), may_stop=may_stop)
        return events

    def _call_events(self, pieces: Sequence[Piece], *, may_stop: bool) -> list[TextEvent]:
        events: list[TextEvent] = []
        for piece in pieces:
            if isinstance(piece, str):
                events += self._add_answer(piece, [], may_stop=may_stop)
            elif self._stop.found is None:
                # Text held back before a call can no longer become a stop string.
                events += [*self._answer_events(self._stop.finish()), piece]
        return events

    def _add_answer(
        self, text: str, logprobs: list[TokenLogprob], *, may_stop: bool
    ) -> list[TextEvent]:
        self._behind_tag = False
        self._held.append((len(text), logprobs))
        return self._answer_events(self._stop.push(text) if may_stop else text)

    def _answer_events(self, text: str) -> list[TextEvent]:
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


class StopStrings:
    """Cuts one text at the first stop string.

    The stop string that is complete first counts; of several that end together, the longest. So
    the result does not depend on how the text is cut into pieces.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        """Look for these strings; none is empty."""
        self._strings = strings
        self._held = ""
        self.found: str | None = None
        """The stop string that ended the text."""

    def push(self, text: str) -> str:
        """The text that may be shown now; none after a stop string."""
        if self.found is not None:
            return ""
        text = self._held + text
        ends = [(text.find(s) + len(s), -len(s), s) for s in self._strings if s in text]
        if ends:
            end, _, self.found = min(ends)
            shown, self._held = end - len(self.found), ""
        else:
            shown = len(text) - self._may_begin(text)
            self._held = text[shown:]
        return text[:shown]

    def finish(self) -> str:
        """The text that was held back, when it can no longer become a stop string."""
        shown, self._held = self._held, ""
        return shown

    def _may_begin(self, text: str) -> int:
        """Number of last characters that may begin a stop string."""
        longest = max(map(len, self._strings), default=1) - 1
        sizes = range(min(longest, len(text)), 0, -1)
        return next((n for n in sizes if any(s.startswith(text[-n:]) for s in self._strings)), 0)


class TextDecoder:
    """Decodes split bytes as UTF-8; holds back the bytes of an incomplete character."""

    def __init__(self) -> None:
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def decode(self, pieces: Sequence[SplitBytes]) -> list[Delta]:
        """The text of each kind. A character left incomplete where a kind ends becomes U+FFFD."""
        texts = [(piece.kind, self._utf8.decode(piece.data, piece.ends)) for piece in pieces]
        joined = [
            Delta(kind, "".join(text for _, text in group))
            for kind, group in groupby(texts, key=lambda part: part[0])
        ]
        return [delta for delta in joined if delta.text]


def _only_newlines(arrived: list[TokenLogprob]) -> bool:
    """Whether a token is only newlines, which belong to the tag before it."""
    return all(not logprob.text.strip(b"\n") for logprob in arrived)
