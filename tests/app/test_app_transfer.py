"""Export and import: nothing is lost on the way, and no file from elsewhere does harm."""

import copy
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magistral_mlx.app.files.attachments import Attachment
from magistral_mlx.app.store import transfer
from magistral_mlx.app.store.branches import shown_path, switch
from magistral_mlx.app.store.records import Conversation, Figures, StoredMessage
from magistral_mlx.app.store.store import Store
from magistral_mlx.app.store.transfer import file_name, import_json, to_json, to_markdown
from magistral_mlx.errors import UserError


def filled(store: Store) -> str:
    """A conversation with every kind of thing in it; returns its id."""
    conversation = store.create_conversation("Sums & 合計", pinned=True).id
    asked = store.add_message(
        StoredMessage(
            conversation=conversation,
            parent=None,
            role="user",
            content="Sum [it] {up}.",
            attachments=(Attachment("a.txt", "1\n2", 3),),
        )
    )
    for number in range(2):
        answer = store.add_message(
            StoredMessage(
                conversation=conversation,
                parent=asked.id,
                role="assistant",
                content=f"**{number}**",
                reasoning="1 + 2\n\nis 3",
                ending="length",
                figures=Figures(reasoning_tokens=9, total_seconds=1.25, error="e"),
                model="demo",
                group="run",
            )
        )
    last = store.add_message(
        StoredMessage(conversation=conversation, parent=answer.id, role="user", content="And?")
    )
    store.add_message(
        StoredMessage(
            conversation=conversation, parent=last.id, role="assistant", content="half", ending=None
        )
    )
    switch(store, answer.id)
    return conversation


def without_ids(store: Store, conversation: str) -> list[object]:
    """The tree with numbers for ids, to compare."""
    messages = store.messages(conversation)
    number = {message.id: index for index, message in enumerate(messages)}
    groups = [message.group for message in messages]
    return [
        (
            message.parent and number[message.parent],
            message.role,
            message.content,
            message.reasoning,
            message.attachments,
            message.ending,
            message.figures,
            message.model,
            message.group and groups.index(message.group),
            message.created,
        )
        for message in messages
    ]


def test_an_imported_conversation_is_the_exported_one_under_new_ids() -> None:
    store = Store(None)
    first = filled(store)
    second = import_json(store, to_json(store, first).encode()).id
    assert second != first
    assert without_ids(store, second) == without_ids(store, first)
    one, two = store.conversation(first), store.conversation(second)
    assert (one.title, one.created, one.updated, one.pinned) == (
        two.title,
        two.created,
        two.updated,
        two.pinned,
    )
    texts = [[t.message.content for t in shown_path(store, c)] for c in (first, second)]
    assert texts[0] == texts[1] == ["Sum [it] {up}.", "**1**", "And?", "half"]
    assert len(store.conversations("[it]")) == 2


def test_markdown_shows_the_path_with_reasoning_as_quotations() -> None:
    store = Store(None)
    assert to_markdown(store, filled(store)) == (
        "# Sums & 合計\n\n## User\n\n*a.txt* (3 tokens)\n\nSum [it] {up}.\n\n"
        "## Assistant\n\n> 1 + 2\n>\n> is 3\n\n**1**\n\n## User\n\nAnd?\n\n## Assistant\n\nhalf\n"
    )


Break = Callable[[dict[str, Any]], object]


def first(data: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = data["messages"][0]
    return message


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda d: d.update(format="other"), "not a conversation that this page exported"),
        (lambda d: d.update(version=2), "has version 2 of the format"),
        (lambda d: d.update(version=None), "has version None"),
        (lambda d: d.update(messages={}), "messages is {} (input should be a valid list)"),
        (
            lambda d: d.update(conversation=[]),
            "conversation is [] (input should be a valid dictionary",
        ),
        (
            lambda d: d["conversation"].update(title=5),
            "conversation.title is 5 (input should be a valid string)",
        ),
        (lambda d: d["conversation"].update(title="x" * 2000), "conversation.title is 'xxx"),
        (
            lambda d: d["conversation"].update(updated="now"),
            "conversation.updated is 'now' (input should be a valid number)",
        ),
        (
            lambda d: d["conversation"].update(created=1e300),
            "conversation.created is 1e+300 (input should be less than",
        ),
        (
            lambda d: d["conversation"].update(leaf="zz"),
            "conversation.leaf is 'zz', which is no message before it",
        ),
        (
            lambda d: d["messages"].append("x"),
            "messages.5 is 'x' (input should be a valid dictionary",
        ),
        (
            lambda d: first(d).update(role="system"),
            "messages.0.role is 'system' (input should be 'user' or 'assistant')",
        ),
        (lambda d: first(d).update(role=["user"]), "messages.0.role is ['user']"),
        (
            lambda d: first(d).update(content=None),
            "messages.0.content is None (input should be a valid string)",
        ),
        (lambda d: first(d).update(reasoning="r"), "messages.0 is a user's message with reasoning"),
        (
            lambda d: first(d).update(ending="sideways"),
            "messages.0.ending is 'sideways' (input should be 'stop', ",
        ),
        (
            lambda d: first(d).update(created=True),
            "messages.0.created is True (input should be a valid number)",
        ),
        (lambda d: first(d).update(parent=first(d)["id"]), "no message before it"),
        (
            lambda d: d["messages"][1].update(id=first(d)["id"]),
            "messages.1 has the id of an earlier message",
        ),
        (lambda d: d["messages"].reverse(), "no message before it"),
        (lambda d: first(d).pop("id"), "messages.0.id is missing"),
        (
            lambda d: first(d).update(attachments={}),
            "messages.0.attachments is {} (input should be a valid list)",
        ),
        (
            lambda d: first(d)["attachments"][0].update(tokens=-1),
            "messages.0.attachments.0.tokens is -1 (input should be greater",
        ),
        (
            lambda d: first(d)["attachments"][0].update(text=1),
            "messages.0.attachments.0.text is 1 (input should be a valid string)",
        ),
        (
            lambda d: first(d).update(figures=[]),
            "messages.0.figures is [] (input should be a valid dictionary)",
        ),
    ],
)
def test_a_damaged_file_is_refused_in_one_sentence_and_adds_nothing(
    damage: Break, reason: str
) -> None:
    store = Store(None)
    data = json.loads(to_json(store, filled(store)))
    damage(data)
    with pytest.raises(UserError) as caught:
        import_json(store, json.dumps(data).encode())
    assert reason in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(store.conversations()) == 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON in UTF-8"),
        (b"[1, 2", "not JSON"),
        (b"[]", "not a conversation"),
        (b"[" * 1_000_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"a": "' + b"[" * 3, "not JSON"),
        (b"1" * 10_000, "not JSON"),
        (b"\0" * 10, "not JSON"),
    ],
)
def test_other_files_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        import_json(Store(None), data)


def test_files_that_are_too_large_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "MAX_BYTES", 1 << 20)
    with pytest.raises(UserError, match="larger than 1 MB"):
        import_json(Store(None), b" " * ((1 << 20) + 1))


def test_files_of_too_many_messages_are_refused() -> None:
    store = Store(None)
    data = json.loads(to_json(store, filled(store)))
    data["messages"] = [first(data)] * (transfer.MAX_MESSAGES + 1)
    with pytest.raises(UserError, match="at most 20000 items"):
        import_json(store, json.dumps(data).encode())


@pytest.mark.parametrize("size", [1_000_000, 2_000_000])
@pytest.mark.parametrize(
    "repeated",
    [
        *(b'"', b'"\\"', b'\\"', b'"""', b"[", b'{"a":', b'["', b"[]", b"[[],", b"1", b"1.", b"\\"),
        *(b'"a":"', b'{"":"', b"\\u12", b"[\n", b" ", b"-", b'"\\'),
    ],
)
def test_hostile_files_are_refused_in_linear_time(repeated: bytes, size: int) -> None:
    for start in (b"", b'{"a": "', b'["', b'{"format": "magistral-mlx conversation", "x": '):
        data = start + repeated * (size // len(repeated))
        begun = time.process_time()
        with pytest.raises(UserError, match=r"not JSON|nested too deeply"):
            import_json(Store(None), data)
        assert time.process_time() - begun < 2


def test_names_of_imported_files_are_made_safe() -> None:
    store = Store(None)
    data = json.loads(to_json(store, filled(store)))
    first(data)["attachments"][0]["name"] = "../<b>\u202e.txt"
    made = import_json(store, json.dumps(data).encode())
    assert store.messages(made.id)[0].attachments[0].name == "b.txt"


_json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(deadline=None)
@given(st.data())
def test_whatever_stands_in_a_field_it_is_imported_or_refused(data: st.DataObject) -> None:
    store = Store(None)
    exported = json.loads(to_json(store, filled(store)))
    target = data.draw(st.sampled_from([exported, exported["conversation"], *exported["messages"]]))
    target[data.draw(st.sampled_from(sorted(target)))] = copy.deepcopy(data.draw(_json_values))
    try:
        made = import_json(store, json.dumps(exported).encode())
    except UserError:
        assert len(store.conversations()) == 1
    else:
        to_markdown(store, made.id)
        to_json(store, made.id)


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Primes below 60?", "Primes below 60.md"),
        ("../../etc/passwd", "etc passwd.md"),
        ("合計：12/30", "合計：12 30.md"),
        ("", "conversation.md"),
        ("...", "conversation.md"),
        ("a\u202eb\n", "a b.md"),
        ("x" * 300, "x" * 80 + ".md"),
    ],
)
def test_the_files_name_comes_from_the_title_and_is_safe(title: str, name: str) -> None:
    assert file_name(Conversation("i", title, 0, 0, False, None), ".md") == name
