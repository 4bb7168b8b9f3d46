"""What `verify` and `inspect` print."""

from math import prod

from rich.console import Console
from rich.table import Table

from magistral_mlx.convert.output.stored_model import StoredModel
from magistral_mlx.convert.rounding.weight_error import WeightError
from magistral_mlx.convert.verification import Verification


def print_verification(found: Verification, console: Console) -> None:
    """A line for every check, and a table of errors when there is one."""
    if found.errors:
        table = Table("tensor", "mean error", "largest", box=None)
        for name, error in found.errors.items():
            table.add_row(_module(name), f"{error.mean:.3%}", f"{error.largest:.3f}")
        console.print(table)
        worst = max(found.errors, key=lambda name: found.errors[name].mean)
        mean = sum(error.mean for error in found.errors.values()) / len(found.errors)
        console.print(
            f"Mean of the tensors {mean:.3%}; largest {found.errors[worst].mean:.3%}, "
            f"{_module(worst)}."
        )
    for mark, lines in (("ok", found.passed), ("skipped", found.skipped), ("WRONG", found.failed)):
        for line in lines:
            console.print(f"{mark}: {line}", markup=False)


def print_tensors(stored: StoredModel, console: Console) -> None:
    """A table of the folder's tensors: bits a weight, bytes and the error of the conversion."""
    table = Table(box=None)
    for title in ("tensor", "shape", "stored as"):
        table.add_column(title)
    for title in ("bits", "MB", "mean error", "largest"):
        table.add_column(title, justify="right")
    names = [name for name in stored.places if not name.endswith((".scales", ".biases"))]
    total = weights = 0
    for name in names:
        shape, kind = _shape(stored, name)
        nbytes = sum(_bytes(stored, part) for part in _parts(stored, name))
        count = prod(shape)
        total, weights = total + nbytes, weights + count
        error = stored.errors.get(name)
        table.add_row(
            _module(name),
            " x ".join(map(str, shape)),
            kind,
            f"{8 * nbytes / count:.2f}",
            f"{nbytes / 1e6:.2f}",
            *_error_cells(error),
        )
    console.print(table)
    console.print(
        f"{len(names)} tensors, {weights:,} weights, {total / 1e9:.3f} GB, "
        f"{8 * total / weights:.3f} bits a weight."
    )


def _error_cells(error: WeightError | None) -> tuple[str, str]:
    return ("", "") if error is None else (f"{error.mean:.3%}", f"{error.largest:.3f}")


def _shape(stored: StoredModel, name: str) -> tuple[tuple[int, ...], str]:
    entry = stored.places[name][1]
    quantization = stored.checkpoint.config.quantization_of(_module(name))
    if entry.dtype != "U32" or quantization is None:
        return entry.shape, entry.dtype
    columns = entry.shape[1] * 32 // quantization.bits
    kind = f"{quantization.mode} {quantization.bits} bits / {quantization.group_size}"
    return (entry.shape[0], columns), kind


def _parts(stored: StoredModel, name: str) -> list[str]:
    module = name.removesuffix(".weight")
    names = (name, f"{module}.scales", f"{module}.biases")
    return [part for part in names if part in stored.places]


def _bytes(stored: StoredModel, name: str) -> int:
    entry = stored.places[name][1]
    return entry.stop - entry.start


def _module(name: str) -> str:
    return name.removesuffix(".weight")
