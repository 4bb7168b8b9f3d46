"""Errors with messages that say what to do."""

from collections.abc import Iterable
from importlib.util import find_spec


class UserError(ValueError):
    """Refused input. The message is one sentence with the value and the remedy.

    The command line prints it and exits with 2; the server answers with HTTP 4xx.
    """


class CheckpointError(UserError):
    """A checkpoint folder or source that cannot be used."""


class RequestError(UserError):
    """An option or a request that cannot be served.

    field: the option whose value is refused, if it is one option.
    """

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class EngineError(RuntimeError):
    """The engine is closed, or its thread has died."""


class QueueFullError(EngineError):
    """The queue of waiting requests is full."""


def check_extra(what: str, modules: Iterable[str], *, extra: str) -> None:
    """Raise UserError if the modules of an extra are not installed."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise UserError(
            f"{what} needs {', '.join(missing)}: install it with pip install "
            f"'magistral-mlx[{extra}]'."
        )
