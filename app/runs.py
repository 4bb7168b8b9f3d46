"""A running generation, apart from any browser tab that watches it."""

from collections.abc import Iterator, Sequence
from typing import Protocol, Self

from magistral_mlx.app.snapshot import Snapshot
from magistral_mlx.app.store import Store
from magistral_mlx.conversation import Message
from magistral_mlx.events import Event
from magistral_mlx.options import GenerationOptions


class AnswerStream(Protocol):
    """The events of one answer; cancel and answer_now may come from any thread."""

    def __iter__(self) -> Iterator[Event]: ...

    def cancel(self) -> None: ...

    def answer_now(self) -> None: ...


class RunningModel(Protocol):
    """What a run needs of an open model: `magistral_mlx.open_model` returns one."""

    @property
    def name(self) -> str: ...

    def stream(self, messages: Sequence[Message], options: GenerationOptions) -> AnswerStream: ...


class Run:
    """One question being answered by one or more chains. Any thread may call any method."""

    def __init__(
        self,
        model: RunningModel,
        store: Store,
        question: str,
        options: GenerationOptions,
        *,
        chains: int = 1,
        system: str = "",
        grace: float = 3.0,
    ) -> None:
        """Submit the chains and begin; use `RunRegistry.start`.

        Raises UserError when the prompt does not fit or the options are refused; nothing has
        been stored then.
        """
        raise NotImplementedError

    @property
    def id(self) -> str:
        """Of this run, also the `group` of its messages when there are several chains."""
        raise NotImplementedError

    @property
    def conversation(self) -> str:
        """The id of its conversation."""
        raise NotImplementedError

    def snapshot(self) -> Snapshot:
        """The run as it is now."""
        raise NotImplementedError

    def wait(self, version: int, timeout: float | None = None) -> Snapshot:
        """The run as soon as it is newer than `version`, or as it is after `timeout` seconds."""
        raise NotImplementedError

    def stop(self) -> None:
        """End all chains within a step; what they have written is kept."""
        raise NotImplementedError

    def answer_now(self, chain: int | None = None) -> None:
        """Close the reasoning of a chain, or of all of them, and go on to the answer."""
        raise NotImplementedError

    def join(self, timeout: float | None = None) -> bool:
        """Wait until it has ended and is saved; False: it still runs."""
        raise NotImplementedError


class Watch:
    """A tab's interest in a run; leaving the block, or `close`, ends it."""

    @property
    def run(self) -> Run:
        """What is watched."""
        raise NotImplementedError

    def close(self) -> None:
        """No longer watch. Closing twice does no harm."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class RunRegistry:
    """The runs of a server, by conversation; one at a time for each."""

    def __init__(self, store: Store, *, grace: float = 3.0) -> None:
        """grace: seconds that a run goes on without any watcher."""
        raise NotImplementedError

    def start(
        self,
        model: RunningModel,
        question: str,
        options: GenerationOptions,
        *,
        chains: int = 1,
        system: str = "",
    ) -> Run:
        """Answer a stored user message (its id). Its answers are stored as its children.

        Raises UserError when it is refused, or when its conversation has a run already.
        """
        raise NotImplementedError

    def of(self, conversation: str) -> Run | None:
        """The run of this conversation that goes on, if any."""
        raise NotImplementedError

    def watch(self, conversation: str) -> Watch | None:
        """Watch the run of this conversation, if one goes on."""
        raise NotImplementedError

    def running(self) -> tuple[Run, ...]:
        """All runs that go on."""
        raise NotImplementedError

    def stop_all(self, timeout: float = 10.0) -> None:
        """Stop all runs and wait until they are saved."""
        raise NotImplementedError
