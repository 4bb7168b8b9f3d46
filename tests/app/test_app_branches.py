"""The tree of a conversation, and what the model gets of it."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magistral_mlx.app.files.attachments import Attachment
from magistral_mlx.app.store.branches import (
    conversation_messages,
    edit,
    path_to,
    question_of,
    shown_path,
    switch,
)
from magistral_mlx.app.store.records import MessageRole, StoredMessage
from magistral_mlx.app.store.store import Store
from magistral_mlx.errors import UserError
from magistral_mlx.text.conversation import Message


class Talk:
    """A conversation that is written in short: `say(parent, text)` returns the message."""

    def __init__(self) -> None:
        self.store = Store(None)
        self.id = self.store.create_conversation("t").id

    def say(self, parent: StoredMessage | None, text: str) -> StoredMessage:
        """A question after an answer or at the start, an answer after a question."""
        role: MessageRole = "assistant" if parent and parent.role == "user" else "user"
        return self.store.add_message(
            StoredMessage(
                conversation=self.id,
                parent=parent.id if parent else None,
                role=role,
                content=text,
                reasoning=f"why {text}" if role == "assistant" else None,
            )
        )

    def shown(self) -> list[tuple[str, int, int]]:
        """Text, index among the siblings, and their number, of each turn shown."""
        turns = shown_path(self.store, self.id)
        return [(turn.message.content, turn.index, len(turn.siblings)) for turn in turns]


def test_an_edited_question_is_a_sibling_and_both_stay_reachable() -> None:
    talk = Talk()
    question = talk.say(None, "q1")
    answer = talk.say(question, "a1")
    talk.say(answer, "q2")
    edited = edit(talk.store, question.id, "q1 again")
    assert talk.shown() == [("q1 again", 1, 2)]
    assert shown_path(talk.store, talk.id)[0].siblings == (question, edited)
    switch(talk.store, question.id)
    assert talk.shown() == [("q1", 0, 2), ("a1", 0, 1), ("q2", 0, 1)]
    assert shown_path(talk.store, talk.id)[0].siblings == (question, edited)


def test_switching_goes_down_to_the_latest_leaf() -> None:
    talk = Talk()
    question = talk.say(None, "q")
    first = talk.say(question, "first")
    old = talk.say(first, "old")
    talk.say(first, "new")
    talk.say(question, "second")
    assert talk.shown()[-1] == ("second", 1, 2)
    leaf = switch(talk.store, first.id)
    assert [text for text, *_ in talk.shown()] == ["q", "first", "new"]
    assert talk.store.message(leaf).content == "new"
    switch(talk.store, old.id)
    assert talk.shown()[-1] == ("old", 0, 2)


def test_an_answer_is_regenerated_from_its_question() -> None:
    talk = Talk()
    question = talk.say(None, "q")
    answer = talk.say(question, "a")
    assert question_of(talk.store, answer.id) == question
    with pytest.raises(UserError, match="Only an answer"):
        question_of(talk.store, question.id)


def test_chains_are_the_answers_of_one_run_and_no_others() -> None:
    talk = Talk()
    question = talk.say(None, "q")
    talk.say(question, "alone")
    for text in ("x", "y"):
        talk.store.add_message(
            StoredMessage(
                conversation=talk.id,
                parent=question.id,
                role="assistant",
                content=text,
                group="run",
            )
        )
    turn = shown_path(talk.store, talk.id)[-1]
    assert [message.content for message in turn.chains] == ["x", "y"]
    assert (turn.index, len(turn.siblings)) == (2, 3)


def test_an_edit_keeps_the_files() -> None:
    talk = Talk()
    files = (Attachment("a.txt", "text", 1),)
    asked = talk.store.add_message(
        StoredMessage(
            conversation=talk.id, parent=None, role="user", content="q", attachments=files
        )
    )
    assert edit(talk.store, asked.id, "r").attachments == files


def test_what_cannot_be_edited_is_refused() -> None:
    talk = Talk()
    question = talk.say(None, "q")
    answer = talk.say(question, "a")
    with pytest.raises(UserError, match="Only your own"):
        edit(talk.store, answer.id, "x")
    with pytest.raises(UserError, match="empty"):
        edit(talk.store, question.id, "  ")


def test_the_model_gets_the_path_with_files_and_reasoning_and_system_text() -> None:
    talk = Talk()
    first = talk.store.add_message(
        StoredMessage(
            conversation=talk.id,
            parent=None,
            role="user",
            content="Sum it.",
            attachments=(Attachment("a.txt", "1 2", 2),),
        )
    )
    other = talk.say(first, "another answer")
    answer = talk.say(first, "3")
    last = talk.say(answer, "And twice?")
    assert conversation_messages(talk.store, last.id, system="Be brief.") == [
        Message("system", "Be brief."),
        Message("user", "File: a.txt\n```\n1 2\n```\n\nSum it."),
        Message("assistant", "3", reasoning="why 3"),
        Message("user", "And twice?"),
    ]
    assert other.content not in str(conversation_messages(talk.store, last.id))


def test_a_question_that_was_never_answered_is_not_answered_with_the_next() -> None:
    talk = Talk()
    stopped = talk.say(talk.say(None, "first"), "")
    last = talk.say(stopped, "second")
    assert conversation_messages(talk.store, last.id) == [Message("user", "second")]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=30), st.integers(0, 30))
def test_any_tree_shows_a_whole_path_through_the_message_chosen(
    parents: list[int], chosen: int
) -> None:
    talk = Talk()
    said: list[StoredMessage] = []
    for number, parent in enumerate(parents):
        said.append(talk.say(said[parent % number] if number else None, str(number)))
    target = said[chosen % len(said)]
    leaf = switch(talk.store, target.id)
    path = path_to(talk.store.messages(talk.id), leaf)
    assert target in [turn.message for turn in path]
    assert path[0].message.parent is None
    for above, below in pairwise(path):
        assert below.message.parent == above.message.id
    assert not any(message.parent == leaf for message in said)
    for turn in path:
        assert turn.siblings[turn.index] == turn.message


def test_a_damaged_tree_with_a_circle_still_ends() -> None:
    talk = Talk()
    a = talk.say(None, "a")
    b = talk.say(a, "b")
    circle = [replace(a, parent=b.id), replace(b, parent=a.id)]
    assert len(path_to(circle, b.id)) == 2
