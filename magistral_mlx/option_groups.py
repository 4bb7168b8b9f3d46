"""Groups of options: a command takes dataclasses, where typer knows only single options."""

from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import get_type_hints


def takes_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Make a command that takes dataclasses one that typer can register.

    Each field becomes an option with the field's annotation and default, and the command gets the
    dataclass.
    """
    hints = get_type_hints(command, include_extras=True)
    groups = {name: kind for name, kind in hints.items() if is_dataclass(kind)}

    @wraps(command)
    def run(**given: object) -> None:
        for name, kind in groups.items():
            assert isinstance(kind, type)
            given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        command(**given)

    parameters = list(_flat(signature(command), hints))
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    run.__dict__["__signature__"] = Signature(parameters)
    return run


def _flat(declared: Signature, hints: dict[str, type]) -> Iterator[Parameter]:
    for parameter in declared.parameters.values():
        kind = hints[parameter.name]
        if not is_dataclass(kind):
            yield parameter.replace(annotation=kind, kind=Parameter.KEYWORD_ONLY)
            continue
        annotations = get_type_hints(kind, include_extras=True)
        for field in fields(kind):
            yield Parameter(
                field.name,
                Parameter.KEYWORD_ONLY,
                default=Parameter.empty if field.default is MISSING else field.default,
                annotation=annotations[field.name],
            )
