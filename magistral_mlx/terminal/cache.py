"""The cache commands: list and remove the KV that --kv-disk keeps."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from magistral_mlx.errors import RequestError
from magistral_mlx.kv.disk.file import KVFile
from magistral_mlx.kv.disk.folder import StoredFile, described_files, kv_folder, remove_files
from magistral_mlx.memory.plan import gigabytes
from magistral_mlx.terminal.console import consoles, exit_codes, print_json

UNREADABLE = "unreadable"

cache_app = typer.Typer(
    no_args_is_help=True, help="List and remove the KV that --kv-disk keeps on disk."
)


@cache_app.command("list")
def cache_list(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the KV files, last used first: model, number of tokens, size."""
    console, errors = consoles()
    with exit_codes(errors):
        folder = kv_folder()
        files = described_files(folder)
        if as_json:
            fields = [_fields(stored, file) for stored, file in files]
            print_json({"folder": str(folder), "files": fields}, console)
        elif not files:
            console.print(f"There are no KV files in {folder}.", highlight=False, soft_wrap=True)
        else:
            console.print(_table(files))
            total = gigabytes(sum(stored.nbytes for stored, _ in files))
            console.print(f"{total} in {folder}", style="dim", highlight=False, soft_wrap=True)


@cache_app.command("clear")
def cache_clear(
    model: Annotated[
        str | None,
        typer.Option(help="A name that cache list shows, or a Hub id.", show_default="all models"),
    ] = None,
) -> None:
    """Remove KV files."""
    console, errors = consoles()
    with exit_codes(errors):
        removed = _remove(kv_folder(), model)
        freed = gigabytes(sum(stored.nbytes for stored in removed))
        count = f"{len(removed)} file{'' if len(removed) == 1 else 's'}"
        console.print(f"Removed {count}, {freed}.", highlight=False)


def _remove(folder: Path, model: str | None) -> list[StoredFile]:
    """Remove the files of one model, or all. Raises RequestError when that is impossible."""
    files = [file for _, file in described_files(folder)]
    if model is not None and not any(_is_of(file, model) for file in files):
        known = ", ".join(sorted({_model(file) for file in files})) or "no model"
        raise RequestError(f"There is no KV of {model!r} in {folder}, only of {known}.")
    try:
        return remove_files(folder, wanted=lambda file: model is None or _is_of(file, model))
    except OSError as error:
        raise RequestError(
            f"{error.filename} cannot be removed ({error.strerror}): make its folder writable."
        ) from error


def _is_of(file: KVFile | None, model: str) -> bool:
    """Whether the KV is of this model or a conversion of it: "demo-4bit" matches "demo"."""
    name = Path(model).name
    return _model(file) == name or _model(file).startswith(f"{name}-")


def _model(file: KVFile | None) -> str:
    return file.model if file is not None else UNREADABLE


def _kv_type(file: KVFile) -> str:
    bits = file.kind.precision.bits
    return file.kind.dtype if bits is None else f"{bits} bits"


def _table(files: list[tuple[StoredFile, KVFile | None]]) -> Table:
    table = Table("Model", "KV", box=None, padding=(0, 1))
    table.add_column("Tokens", justify="right")
    table.add_column("Bytes", justify="right")
    table.add_column("Last used")
    for stored, file in files:
        table.add_row(
            _model(file),
            _kv_type(file) if file is not None else "",
            f"{len(file.tokens):,}" if file is not None else "",
            gigabytes(stored.nbytes),
            _time(stored).strftime("%Y-%m-%d %H:%M"),
        )
    return table


def _fields(stored: StoredFile, file: KVFile | None) -> dict[str, object]:
    return {
        "file": stored.path.name,
        "model": file.model if file is not None else None,
        "kv": _kv_type(file) if file is not None else None,
        "tokens": len(file.tokens) if file is not None else None,
        "bytes": stored.nbytes,
        "last_used": _time(stored).isoformat(timespec="seconds"),
    }


def _time(stored: StoredFile) -> datetime:
    return datetime.fromtimestamp(stored.used).astimezone()
