"""What a run needs of an open model; `magistral_mlx.open_model` returns one."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from magistral_mlx.events import Event
from magistral_mlx.options import GenerationOptions
from magistral_mlx.text.conversation import Message


class RunningStream(Protocol):
    """The events of one answer; `cancel` and `answer_now` may be called from any thread."""

    def __iter__(self) -> Iterator[Event]: ...

    def cancel(self) -> None: ...

    def answer_now(self) -> None: ...


class RunningModel(Protocol):
    """An open model."""

    @property
    def name(self) -> str: ...

    def stream(self, messages: Sequence[Message], options: GenerationOptions) -> RunningStream: ...
