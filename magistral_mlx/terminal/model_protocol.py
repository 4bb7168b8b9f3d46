"""What the terminal needs of a model."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from magistral_mlx.events import Event
from magistral_mlx.options import GenerationOptions
from magistral_mlx.text.conversation import Message


class Events(Iterator[Event], Protocol):
    """Events of one answer; closing cancels it."""

    def close(self) -> None: ...


class AnsweringModel(Protocol):
    """An open model: `magistral_mlx.open_model` returns one."""

    @property
    def name(self) -> str: ...

    @property
    def window(self) -> int: ...

    def stream(self, messages: Sequence[Message], options: GenerationOptions) -> Events: ...

    def prompt_tokens(self, messages: Sequence[Message], options: GenerationOptions) -> int: ...
