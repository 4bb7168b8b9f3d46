"""Which models are offered, and how one takes the place of another."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from magistral_mlx import GenerationOptions, Magistral, open_model
from magistral_mlx.app.models.holder import HolderSnapshot, ModelHolder, available_models
from magistral_mlx.app.runs.registry import RunRegistry
from magistral_mlx.app.store.records import StoredMessage
from magistral_mlx.app.store.store import Store
from magistral_mlx.errors import UserError
from magistral_mlx.folders import models_folder


class Room:
    """A holder with what it needs; opens the demo with a small window, and counts."""

    def __init__(self, state: Path) -> None:
        self.store = Store(None)
        self.runs = RunRegistry(self.store, grace=None)
        self.opened: list[str] = []
        self.open_at_once: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.models: list[Magistral] = []
        self.holder = ModelHolder(self.runs, open_model=self._open, state_folder=state)

    def _open(self, choice: str) -> Magistral:
        self.opened.append(choice)
        self.gate.wait(10)
        self.open_at_once.append(sum(model.status.alive for model in self.models))
        self.models.append(open_model(choice, window=512))
        return self.models[-1]

    def until(self, state: str) -> HolderSnapshot:
        return until(self.holder, lambda snapshot: snapshot.state == state)

    def question(self) -> str:
        conversation = self.store.create_conversation().id
        return self.store.add_message(
            StoredMessage(
                conversation=conversation, parent=None, role="user", content="What is 4821 + 3377?"
            )
        ).id


def until(holder: ModelHolder, condition: Callable[[HolderSnapshot], bool]) -> HolderSnapshot:
    deadline = time.monotonic() + 60
    snapshot = holder.snapshot()
    while not condition(snapshot):
        assert time.monotonic() < deadline, snapshot
        time.sleep(0.01)
        snapshot = holder.snapshot()
    return snapshot


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path / "state")
    yield made
    made.gate.set()
    made.holder.close()


@pytest.mark.slow
def test_the_demo_comes_first_then_what_was_converted(demo_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / ".Magistral-4bit.partial").mkdir()
    (tmp_path / "file").write_text("x")
    shutil.copytree(demo_folder, tmp_path / "Magistral-Small-2506-4bit")
    demo, magistral = available_models(tmp_path)
    assert (demo.choice, demo.bits) == ("demo", 4)
    assert (magistral.choice, magistral.name, magistral.bits) == (
        str(tmp_path / "Magistral-Small-2506-4bit"),
        "Magistral-Small-2506-4bit",
        4,
    )
    assert demo.nbytes == magistral.nbytes > 1_000_000


@pytest.mark.slow
def test_the_converted_demo_is_offered_once(demo_folder: Path) -> None:
    # Other tests may have put models of theirs beside it.
    choices = [entry.choice for entry in available_models()]
    assert [choice for choice in choices if "demo" in Path(choice).name] == ["demo"]
    assert demo_folder.parent == models_folder()


@pytest.mark.slow
def test_a_model_is_opened_while_one_watches_and_remembered(room: Room) -> None:
    assert room.holder.snapshot().state == "idle"
    assert room.holder.last_choice() is None
    with pytest.raises(UserError, match="No model is open"):
        room.holder.model()
    room.gate.clear()
    room.holder.open("demo")
    opening = room.until("opening")
    assert (opening.choice, opening.name, opening.model) == ("demo", "demo", None)
    time.sleep(0.05)
    assert room.holder.snapshot().seconds > opening.seconds
    with pytest.raises(UserError, match="demo is being opened"):
        room.holder.open("demo")
    room.gate.set()
    ready = room.until("ready")
    assert room.holder.model() is ready.model is room.models[0]
    assert room.holder.last_choice() == "demo"


@pytest.mark.slow
def test_the_old_model_is_closed_before_the_new_one_is_opened(
    room: Room, demo_folder: Path
) -> None:
    room.holder.open("demo")
    first = room.until("ready")
    room.holder.open(str(demo_folder))
    second = until(room.holder, lambda s: s.state == "ready" and s.model is not first.model)
    assert second.name == demo_folder.name
    assert room.open_at_once == [0, 0]
    assert room.holder.last_choice() == str(demo_folder.resolve())


@pytest.mark.slow
def test_answers_in_progress_are_not_stopped_unless_told_to(room: Room) -> None:
    room.holder.open("demo")
    model = room.until("ready").model
    assert model is not None
    run = room.runs.start(model, room.question(), GenerationOptions())
    with pytest.raises(UserError, match="An answer is being written"):
        room.holder.open("demo")
    room.holder.open("demo", stop_runs=True)
    assert run.join(10)
    until(room.holder, lambda s: s.model not in (None, model))
    assert not model.status.alive


def test_a_model_that_does_not_open_says_why_and_leaves_none(room: Room, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    room.holder.open(str(tmp_path / "empty"))
    failed = room.until("failed")
    assert "config.json is missing" in (failed.message or "")
    assert (failed.model, room.holder.last_choice()) == (None, None)


def test_a_model_that_is_not_there_is_refused_at_once(room: Room) -> None:
    with pytest.raises(UserError, match="There is no model 'mistralai/Nothing'"):
        room.holder.open("mistralai/Nothing")
    assert room.opened == []


def test_a_hub_id_opens_what_was_converted_from_it(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "models" / "Magistral-Small-2506-4bit"
    folder.mkdir(parents=True)
    monkeypatch.setenv("MAGISTRAL_MLX_MODELS", str(folder.parent))
    room.holder.open("mistralai/Magistral-Small-2506")
    assert room.until("failed").choice == str(folder)


@pytest.mark.slow
def test_closing_ends_also_what_is_being_opened(room: Room) -> None:
    room.gate.clear()
    room.holder.open("demo")
    threading.Timer(0.2, room.gate.set).start()
    room.holder.close()
    assert not room.models[0].status.alive
    with pytest.raises(UserError, match="closing"):
        room.holder.open("demo")
