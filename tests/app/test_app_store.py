"""The store: nothing is lost or mixed, with several writers and after kills."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from magistral_mlx.app.files.attachments import Attachment
from magistral_mlx.app.store import database
from magistral_mlx.app.store.records import Figures, StoredMessage
from magistral_mlx.app.store.store import Store
from magistral_mlx.errors import UserError

FIGURES = Figures(prompt_tokens=190, reasoning_seconds=1.5, thinking_budget=100)


@pytest.fixture(params=["disk", "memory", "without FTS5"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    """The same interface on disk, in memory, and on an SQLite without full-text search."""
    if request.param == "without FTS5":
        monkeypatch.setattr(database, "FULL_TEXT", "fts_that_is_missing")
    opened = Store(None if request.param == "memory" else tmp_path / "data")
    yield opened
    opened.close()


def question(store: Store, text: str, title: str = "A title") -> str:
    """A new conversation with one question; returns its id."""
    conversation = store.create_conversation(title)
    store.add_message(
        StoredMessage(conversation=conversation.id, parent=None, role="user", content=text)
    )
    return conversation.id


def found(store: Store, search: str) -> set[str]:
    return {conversation.id for conversation in store.conversations(search)}


def test_a_message_comes_back_as_it_was_added(store: Store) -> None:
    conversation = store.create_conversation("Sums")
    files = (Attachment("a.py", "print(1)\n", 4), Attachment("b.txt", "", 0))
    asked = store.add_message(
        StoredMessage(
            conversation=conversation.id,
            parent=None,
            role="user",
            content="Why?",
            attachments=files,
        )
    )
    answered = store.add_message(
        StoredMessage(
            conversation=conversation.id,
            parent=asked.id,
            role="assistant",
            content="**42**",
            reasoning="12 + 30",
            ending="length",
            figures=FIGURES,
            model="demo",
            group="g",
        )
    )
    assert store.messages(conversation.id) == [asked, answered]
    assert store.message(asked.id).attachments == files
    assert store.conversation(conversation.id).leaf == answered.id


def test_halves_of_characters_from_a_browser_do_not_stop_a_message(store: Store) -> None:
    conversation = question(store, "smile \ud83d and zero \0", title="\udc00 title")
    assert store.messages(conversation)[0].content == "smile ? and zero \0"


def test_pinned_conversations_come_first_then_the_latest(store: Store) -> None:
    ids = [question(store, f"question {n}") for n in range(3)]
    store.pin(ids[1], pinned=True)
    store.add_message(StoredMessage(conversation=ids[0], parent=None, role="user", content="again"))
    assert [c.id for c in store.conversations()] == [ids[1], ids[0], ids[2]]
    store.pin(ids[1], pinned=False)
    assert store.conversations()[0].id == ids[0]


@pytest.mark.parametrize(
    ("text", "search"),
    [
        ("How many primes?", "PRIMES"),
        ("今天的天气很好", "天气"),
        ("東京の人口は", "東京の人口"),
        ("ｶﾀｶﾅ", "カタカナ"),
        ("كم يساوي 12 + 30؟", "يساوي"),
        ("STRASSE in Köln", "straße"),
        ("ПРИВЕТ мир", "привет"),
        ('a "quoted" 100%_* [x]', '"quoted" 100%_*'),
        ("qz", "q"),
    ],
)
def test_a_part_of_a_message_in_any_script_is_found(store: Store, text: str, search: str) -> None:
    conversation = question(store, text)
    question(store, "something else")
    assert found(store, search) == {conversation}


@pytest.mark.parametrize("search", ["NOT", "x OR y", "*", '"', "primes*", "%", "title:x"])
def test_signs_of_search_languages_mean_nothing(store: Store, search: str) -> None:
    question(store, "How many primes?")
    assert found(store, search) == set()


def test_titles_and_finished_answers_and_file_names_are_found(store: Store) -> None:
    conversation = question(store, "x", title="Gardening")
    store.rename(conversation, "Cooking")
    store.add_message(
        StoredMessage(
            conversation=conversation,
            parent=None,
            role="user",
            content="",
            attachments=(Attachment("recipe.pdf", "text", 1),),
        )
    )
    answer = store.add_message(
        StoredMessage(
            conversation=conversation, parent=None, role="assistant", content="", ending=None
        )
    )
    store.write_answer(answer.id, content="Saffron", reasoning=None, ending="stop", figures=None)
    assert found(store, "gardening") == set()
    assert found(store, "cooking") == found(store, "saffron") == found(store, "recipe")
    assert found(store, "cooking") == {conversation}


def test_a_deleted_conversation_is_gone_from_everything(store: Store) -> None:
    conversation = question(store, "primes")
    answer = store.add_message(
        StoredMessage(conversation=conversation, parent=None, role="assistant", content="a")
    )
    store.delete(conversation)
    store.delete(conversation)
    assert found(store, "primes") == found(store, "") == set()
    assert store.messages(conversation) == []
    written = store.write_answer(
        answer.id, content="late", reasoning=None, ending="stop", figures=None
    )
    assert not written
    for use in (store.conversation, store.message):
        with pytest.raises(UserError, match="no longer there"):
            use(conversation)
    with pytest.raises(UserError, match="no longer there"):
        store.add_message(
            StoredMessage(conversation=conversation, parent=None, role="user", content="x")
        )


def test_an_answer_is_unfinished_until_it_has_an_ending(store: Store) -> None:
    conversation = question(store, "x")
    answer = store.add_message(
        StoredMessage(
            conversation=conversation, parent=None, role="assistant", content="", ending=None
        )
    )
    store.write_answer(answer.id, content="half", reasoning="r", ending=None, figures=FIGURES)
    half = store.message(answer.id)
    assert (half.content, half.reasoning, half.ending, half.figures) == ("half", "r", None, FIGURES)
    store.write_answer(answer.id, content="whole", reasoning="r", ending="stop", figures=None)
    assert store.message(answer.id).ending == "stop"


def test_values_are_kept_and_removed(store: Store) -> None:
    assert store.value("settings") is None
    store.keep_value("settings", "{}")
    store.keep_value("settings", "[]")
    assert store.value("settings") == "[]"
    store.keep_value("settings", None)
    assert store.value("settings") is None


def test_an_empty_title_is_refused(store: Store) -> None:
    with pytest.raises(UserError, match="cannot be empty"):
        store.rename(question(store, "x"), "  ")


def test_threads_share_one_store(store: Store) -> None:
    conversation = store.create_conversation().id

    def add(number: int) -> None:
        for n in range(20):
            store.add_message(
                StoredMessage(
                    conversation=conversation, parent=None, role="user", content=f"{number} {n}"
                )
            )
            store.conversations("9 1")

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    texts = [message.content for message in store.messages(conversation)]
    assert sorted(texts) == sorted(f"{number} {n}" for number in range(8) for n in range(20))


def test_what_is_on_disk_is_there_after_a_restart_and_for_this_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "data"
    store = Store(folder)
    conversation = question(store, "kept")
    for file in folder.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(list(folder.iterdir())) == 3
    store.close()
    assert found(Store(folder), "kept") == {conversation}


def test_a_database_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    Store(tmp_path).close()
    (tmp_path / database.FILE_NAME).chmod(0o644)
    Store(tmp_path)
    assert stat.S_IMODE((tmp_path / database.FILE_NAME).stat().st_mode) == 0o600


def test_many_may_create_the_same_database_at_once(tmp_path: Path) -> None:
    opened: list[Store] = []
    start = threading.Barrier(8)

    def open_it() -> None:
        start.wait()
        opened.append(Store(tmp_path))

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 8
    conversation = question(opened[0], "shared")
    assert found(opened[7], "shared") == {conversation}


def test_without_history_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    question(Store(None), "secret")
    assert list(tmp_path.iterdir()) == []


def test_deleted_text_is_not_left_on_the_disk(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.delete(question(store, "a secret word, xyzzy-plugh"))
    store.close()
    assert all(b"xyzzy-plugh" not in file.read_bytes() for file in tmp_path.iterdir())


WRITER = """
import sys
from pathlib import Path
from magistral_mlx.app.store.records import StoredMessage
from magistral_mlx.app.store.store import Store

store = Store(Path(sys.argv[1]))
conversation = store.create_conversation("c").id
answer = store.add_message(StoredMessage(
    conversation=conversation, parent=None, role="assistant", content="", ending=None
))
for n in range(int(sys.argv[2])):
    text = "x" * n
    store.write_answer(answer.id, content=text, reasoning=None, ending=None, figures=None)
    print(n, flush=True)
"""


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path), "200"]
    writers = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    store = Store(tmp_path)
    lengths = [
        len(store.messages(conversation.id)[0].content) for conversation in store.conversations()
    ]
    assert lengths == [199, 199]


def test_what_was_saved_before_a_kill_is_there_and_marked_as_unfinished(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path), "1000000"]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    saved = 0
    for line in writer.stdout:
        saved = int(line)
        if saved >= 50:
            break
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    store = Store(tmp_path)
    (message,) = store.messages(store.conversations()[0].id)
    assert len(message.content) >= saved
    assert message.ending is None


def test_an_older_schema_is_brought_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = question(Store(tmp_path), "old")
    step = (
        "ALTER TABLE conversations ADD COLUMN colour TEXT;\nUPDATE conversations SET colour = 'b'"
    )
    monkeypatch.setattr(database, "MIGRATIONS", (*database.MIGRATIONS, step))
    assert found(Store(tmp_path), "old") == {conversation}
    raw = sqlite3.connect(tmp_path / database.FILE_NAME)
    assert raw.execute("PRAGMA user_version").fetchone() == (2,)
    assert raw.execute("SELECT colour FROM conversations").fetchone() == ("b",)


def test_a_migration_that_fails_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = question(Store(tmp_path), "old")
    step = "ALTER TABLE conversations ADD COLUMN colour TEXT;\nUPDATE nothing SET x = 1"
    with monkeypatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", (*database.MIGRATIONS, step))
        with pytest.raises(UserError, match="cannot be opened"):
            Store(tmp_path)
    assert found(Store(tmp_path), "old") == {conversation}


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    Store(tmp_path).close()
    raw = sqlite3.connect(tmp_path / database.FILE_NAME)
    raw.execute("PRAGMA user_version = 99")
    raw.close()
    with pytest.raises(UserError, match="newer version"):
        Store(tmp_path)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / database.FILE_NAME).write_bytes(b"not a database, but long enough " * 100)
    with pytest.raises(UserError, match="cannot be opened"):
        Store(tmp_path)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="--data-dir"):
        Store(tmp_path / "file" / "data")


def test_figures_of_another_version_are_read_as_far_as_they_go() -> None:
    data = asdict(FIGURES) | {"new": 1, "cached_tokens": "many", "total_seconds": float("nan")}
    assert Figures.from_json(data) == FIGURES


@pytest.mark.slow
def test_writing_and_searching_stay_quick_with_ten_thousand_messages(tmp_path: Path) -> None:
    store = Store(tmp_path)
    seconds: list[float] = []
    for n in range(500):
        conversation = store.create_conversation(f"c{n}").id
        for _ in range(20):
            begin = time.perf_counter()
            store.add_message(
                StoredMessage(
                    conversation=conversation, parent=None, role="user", content=f"text {n} " * 100
                )
            )
            seconds.append(time.perf_counter() - begin)
    assert sum(seconds[-100:]) < 5 * sum(seconds[100:200]) + 0.1
    for search, count in (("xt 499", 1), ("zz", 0), ("c49", 11)):
        begin = time.perf_counter()
        assert len(store.conversations(search)) == count
        assert time.perf_counter() - begin < 0.5
