"""The output of the commands verify and inspect."""

from math import prod

from rich.console import Console
from rich.table import Table

from magistral_mlx.convert.output.manifest import StoredModel
from magistral_mlx.convert.rounding.stored_form import WeightError
from magistral_mlx.convert.verification import Verification


def print_verification(found: Verification, console: Console) -> None:
    """Print a line for every check, and a table of errors if there are any."""
    if found.errors:
        table = Table("tensor", "mean error", "largest", box=None)
        for name, error in found.errors.items():
            table.add_row(_module(name), *_error_cells(error))
        console.print(table)
        worst, largest = max(found.errors.items(), key=lambda item: item[1].mean)
        mean = sum(error.mean for error in found.errors.values()) / len(found.errors)
        console.print(
            f"Mean of the tensors {mean:.3%}; largest {largest.mean:.3%}, {_module(worst)}."
        )
    for mark, lines in (("ok", found.passed), ("skipped", found.skipped), ("WRONG", found.failed)):
        for line in lines:
            console.print(f"{mark}: {line}", markup=False)


def print_tensors(stored: StoredModel, console: Console) -> None:
    """Print a table of the folder's tensors: bits per weight, bytes, errors of the conversion."""
    table = Table("tensor", "shape", "stored as", box=None)
    for title in ("bits", "MB", "mean error", "largest"):
        table.add_column(title, justify="right")
    names = [name for name in stored.places if not name.endswith((".scales", ".biases"))]
    total = weights = 0
    for name in names:
        shape, kind = _shape(stored, name)
        nbytes, count = _bytes(stored, name), prod(shape)
        total, weights = total + nbytes, weights + count
        table.add_row(
            _module(name),
            " x ".join(map(str, shape)),
            kind,
            f"{8 * nbytes / count:.2f}",
            f"{nbytes / 1e6:.2f}",
            *_error_cells(stored.errors.get(name)),
        )
    console.print(table)
    console.print(
        f"{len(names)} tensors, {weights:,} weights, {total / 1e9:.3f} GB, "
        f"{8 * total / weights:.3f} bits per weight."
    )


def _error_cells(error: WeightError | None) -> tuple[str, str]:
    return ("", "") if error is None else (f"{error.mean:.3%}", f"{error.largest:.3f}")


def _shape(stored: StoredModel, name: str) -> tuple[tuple[int, ...], str]:
    """The shape of the weights before packing, and the stored format."""
    entry = stored.places[name][1]
    quantization = stored.checkpoint.config.quantization_of(_module(name))
    if entry.dtype != "U32" or quantization is None:
        return entry.shape, entry.dtype
    columns = entry.shape[1] * 32 // quantization.bits
    kind = f"{quantization.mode} {quantization.bits} bits / {quantization.group_size}"
    return (entry.shape[0], columns), kind


def _bytes(stored: StoredModel, name: str) -> int:
    """Bytes of a tensor with its scales and biases."""
    module = _module(name)
    parts = (name, f"{module}.scales", f"{module}.biases")
    entries = (stored.places[part][1] for part in parts if part in stored.places)
    return sum(entry.stop - entry.start for entry in entries)


def _module(name: str) -> str:
    return name.removesuffix(".weight")
