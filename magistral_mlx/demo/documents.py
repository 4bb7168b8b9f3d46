"""Training documents for the demo model: conversations as token ids, those to learn marked."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from magistral_mlx import spec
from magistral_mlx.demo.phrases import load_phrases
from magistral_mlx.demo.questions import SKILLS, DemoQuestion, make_greeting, make_question
from magistral_mlx.text.tokenizer import Tokenizer

UNKNOWN = -1
"""Stands for any token outside the trained rows."""


@dataclass(slots=True)
class Document:
    """Token ids after the system prompt; `learn` marks the ids that the loss counts."""

    ids: list[int] = field(default_factory=list)
    learn: list[bool] = field(default_factory=list)

    def add(self, ids: list[int], *, learn: bool) -> None:
        self.ids += ids
        self.learn += [learn] * len(ids)


class DocumentMaker:
    """Draws conversations: one to three turns, reasoning of earlier turns kept or dropped."""

    def __init__(self, encoder: Tokenizer, rng: random.Random) -> None:
        self._encoder = encoder
        self._rng = rng
        self._phrases = list(load_phrases().values())
        self._open_user = _control(encoder, "[INST]")
        self._close_user = _control(encoder, "[/INST]")

    def documents(self) -> Iterator[Document]:
        while True:
            yield self._document()

    def system_prompt(self, *, share: float) -> list[int]:
        """The default prompt in `share` of the draws, half of them with added words of a user."""
        if self._rng.random() >= share:
            return [self._encoder.bos_id]
        text = spec.SYSTEM_PROMPT
        head, tail = text.split("Problem:")
        parts = [self._encoder.encode(part) for part in (head, "Problem:" + tail)]
        if self._rng.random() < 0.5:
            noise = [UNKNOWN] * self._rng.randint(1, 24)
            parts.insert(self._rng.randint(0, 2), noise)
        return [
            self._encoder.bos_id,
            _control(self._encoder, "[SYSTEM_PROMPT]"),
            *(i for part in parts for i in part),
            _control(self._encoder, "[/SYSTEM_PROMPT]"),
        ]

    def _document(self) -> Document:
        document = Document()
        turns = self._rng.choices((1, 2, 3), weights=(70, 24, 6))[0]
        keep = self._rng.random() < 0.5
        for turn in range(turns):
            question = self._question()
            document.add(self._user(question), learn=False)
            if keep or turn == turns - 1:
                self._reply(document, question)
            else:
                answer = self._encoder.encode(question.answer)
                document.add([*answer, self._encoder.eos_id], learn=False)
        return document

    def _question(self) -> DemoQuestion:
        say = self._rng.choice(self._phrases)
        if self._rng.random() < 0.04:
            return make_greeting(self._rng, say)
        return make_question(self._rng, say, skill=self._rng.choice(SKILLS))

    def _user(self, question: DemoQuestion) -> list[int]:
        text = question.text
        if self._rng.random() < 0.15:
            for sign in "+-×":
                text = text.replace(f" {sign} ", sign)
        if "×" in text and self._rng.random() < 0.4:
            text = text.replace("×", self._rng.choice("*x"))
        ids = self._encoder.encode(text)
        if self._rng.random() < 0.1:
            ids = [UNKNOWN] * self._rng.randint(1, 6) + ids
        return [self._open_user, *ids, self._close_user]

    def _reply(self, document: Document, question: DemoQuestion) -> None:
        encode, kind = self._encoder.encode, self._rng.random()
        answer = [*encode(question.answer), self._encoder.eos_id]
        thought = f"{spec.THINK_OPEN}\n{question.reasoning}\n{spec.THINK_CLOSE}\n"
        if kind < 0.03:  # reasoning switched off
            document.add(encode(f"{spec.THINK_OPEN}\n\n{spec.THINK_CLOSE}\n"), learn=False)
            document.add(answer, learn=True)
        elif kind < 0.06:  # reasoning closed by force
            ids = encode(f"{spec.THINK_OPEN}\n{question.reasoning}")
            document.add(ids[: self._rng.randint(3, len(ids))], learn=False)
            document.add(encode(f"\n{spec.THINK_CLOSE}\n"), learn=False)
            document.add(answer, learn=True)
        else:
            document.add(encode(thought + question.answer), learn=True)
            document.add([self._encoder.eos_id], learn=True)


def _control(encoder: Tokenizer, name: str) -> int:
    token_id = encoder.control_id(name)
    if token_id is None:
        raise ValueError(f"The tokenizer has no control token {name}.")
    return token_id
