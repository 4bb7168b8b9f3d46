"""What the KV cache on disk holds, and emptying it."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from magistral_mlx.errors import RequestError
from magistral_mlx.kv.disk.folder import StoredFile, described_files, kv_folder, remove_files
from magistral_mlx.kv.disk.header import KVFile
from magistral_mlx.memory.plan import gigabytes
from magistral_mlx.terminal.ask import print_json
from magistral_mlx.terminal.exit_codes import consoles, exit_codes

UNREADABLE = "unreadable"


def run_cache_list(folder: Path, *, as_json: bool, console: Console) -> None:
    """Print one line a file, the one used last first."""
    files = described_files(folder)
    if as_json:
        print_json({"folder": str(folder), "files": [_fields(*each) for each in files]}, console)
    elif not files:
        console.print(f"There are no KV files in {folder}.", highlight=False, soft_wrap=True)
    else:
        console.print(_table(files))
        total = gigabytes(sum(file.nbytes for file, _ in files))
        console.print(f"{total} in {folder}", style="dim", highlight=False, soft_wrap=True)


def run_cache_clear(folder: Path, *, model: str | None, console: Console) -> None:
    """Remove the files of one model, or all of them, and say what that freed.

    Raises RequestError when there are none of that model, or one cannot be removed.
    """
    if model is not None:
        _check_model(folder, model)
    try:
        removed = remove_files(folder, wanted=lambda file: model is None or _is_of(file, model))
    except OSError as error:
        raise RequestError(
            f"{error.filename} cannot be removed ({error.strerror}): make its folder writable."
        ) from error
    freed = gigabytes(sum(file.nbytes for file in removed))
    count = f"{len(removed)} file{'' if len(removed) == 1 else 's'}"
    console.print(f"Removed {count}, {freed}.", highlight=False)


def _check_model(folder: Path, model: str) -> None:
    files = [file for _, file in described_files(folder)]
    if not any(_is_of(file, model) for file in files):
        known = sorted({_model(file) for file in files})
        there = f"there is KV of {', '.join(known)}" if known else "there is none at all"
        raise RequestError(f"There is no KV of {model!r} in {folder}: {there}.")


def _is_of(file: KVFile | None, model: str) -> bool:
    """Whether it is of this model, or of one converted from it: "demo-4bit" is of "demo"."""
    name = Path(model).name
    return _model(file) == name or _model(file).startswith(f"{name}-")


def _model(file: KVFile | None) -> str:
    return file.model if file is not None else UNREADABLE


def _kv_type(file: KVFile) -> str:
    bits = file.kind.precision.bits
    return file.kind.dtype if bits is None else f"{bits} bits"


def _table(files: list[tuple[StoredFile, KVFile | None]]) -> Table:
    table = Table(box=None, padding=(0, 1))
    table.add_column("Model")
    table.add_column("KV")
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


cache_app = typer.Typer(
    no_args_is_help=True, help="The prompts that --kv-disk keeps: list and remove them."
)


@cache_app.command("list")
def cache_list(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the prompts that are kept on disk: of which model, how long, how large."""
    console, errors = consoles()
    with exit_codes(errors):
        run_cache_list(kv_folder(), as_json=as_json, console=console)


@cache_app.command("clear")
def cache_clear(
    model: Annotated[
        str | None,
        typer.Option(help="A name that cache list shows, or a Hub id.", show_default="all models"),
    ] = None,
) -> None:
    """Remove the prompts that are kept on disk."""
    console, errors = consoles()
    with exit_codes(errors):
        run_cache_clear(kv_folder(), model=model, console=console)
