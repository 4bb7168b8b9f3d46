"""The same model at other bits a weight."""

from pathlib import Path

from magistral_mlx.convert import convert, default_output
from magistral_mlx.convert.sources.locations import DEMO
from magistral_mlx.demo.expand import demo_source
from magistral_mlx.errors import CheckpointError


def model_at_bits(choice: str, bits: int | None) -> str | Path:
    """What to open: the choice itself without bits; the demo is converted when it has to be.

    Another model's conversions lie side by side, "…-3bit" and "…-4bit". Raises CheckpointError when
    there is none at these bits.
    """
    if bits is None:
        return choice
    if choice == DEMO:
        return _demo_at(bits)
    folder = Path(choice)
    base, _, last = folder.name.rpartition("-")
    other = folder.with_name(f"{base if last.endswith('bit') and base else folder.name}-{bits}bit")
    if not other.is_dir():
        raise CheckpointError(
            f"There is no {other.name} in {other.parent}: convert the source with --bits {bits}, "
            "or leave these bits out of the sweep."
        )
    return other


def _demo_at(bits: int) -> Path:
    if bits == 16:
        return demo_source()
    folder = default_output(DEMO, bits=bits)
    return folder if folder.is_dir() else convert(DEMO, folder, bits=bits)
