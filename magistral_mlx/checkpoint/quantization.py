"""How weight matrices are stored: MLX's grouped formats, and how config.json names them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from magistral_mlx.checkpoint.json_file import JsonFields, as_mapping
from magistral_mlx.errors import CheckpointError

BITS = (2, 3, 4, 5, 6, 8)
GROUP_SIZES = (32, 64, 128)

FORMATS = {
    "affine": (BITS, GROUP_SIZES),
    "mxfp4": ((4,), (32,)),
    "mxfp8": ((8,), (32,)),
    "nvfp4": ((4,), (16,)),
}
"""MLX's formats, with their bits and group sizes. Affine groups have a scale and a bias, the others
a scale of one byte."""

DEFAULTS = {"affine": (4, 64), "mxfp4": (4, 32), "mxfp8": (8, 32), "nvfp4": (4, 16)}
"""MLX's defaults of bits and group size, where config.json has none."""


@dataclass(frozen=True, slots=True)
class Quantization:
    """The format of weight matrices."""

    bits: int
    group_size: int
    mode: str = "affine"

    def __post_init__(self) -> None:
        if self.mode not in FORMATS:
            raise CheckpointError(
                f"Quantisation mode {self.mode!r} is not supported: choose {choices([*FORMATS])}."
            )
        bits, group_sizes = FORMATS[self.mode]
        if self.bits not in bits:
            raise CheckpointError(f"{self.bits} bits are not supported: choose {choices(bits)}.")
        if self.group_size not in group_sizes:
            raise CheckpointError(
                f"Group size {self.group_size} is not supported: choose {choices(group_sizes)}."
            )

    @property
    def has_biases(self) -> bool:
        """Whether a group is stored with a bias beside its scale."""
        return self.mode == "affine"


def stored_quantization(data: Mapping[str, object]) -> Quantization | None:
    """The quantisation of all modules but those in `quantization_by_module`; None: not quantised.

    Raises CheckpointError for another program's format, or one that does not exist.
    """
    found = data.get("quantization") or data.get("quantization_config")
    if not found:
        return None
    values = as_mapping(found)
    if not isinstance(values.get("bits"), int) or "quant_method" in values:
        raise CheckpointError(
            f"config.json: the weights are quantised by {values.get('quant_method', found)!r}, "
            "which is not supported: use the bfloat16 release or an MLX folder."
        )
    return _stored_as(values, "config.json: quantization")


def quantization_by_module(
    data: Mapping[str, object],
) -> tuple[tuple[str, Quantization | None], ...]:
    """Modules with a different quantisation; mlx-lm writes a mapping, or false for none."""
    default = stored_quantization(data)
    values = as_mapping(data.get("quantization") or data.get("quantization_config"))
    own = {
        name: _stored_as(value, f"config.json: quantization of {name}") if value else None
        for name, value in values.items()
        if isinstance(value, Mapping) or value is False
    }
    return tuple((name, value) for name, value in sorted(own.items()) if value != default)


def _stored_as(values: object, where: str) -> Quantization:
    fields = JsonFields(as_mapping(values), where)
    mode = str(fields.data.get("mode", "affine"))
    bits, group_size = DEFAULTS.get(mode, (4, 64))
    return Quantization(
        bits=fields.size("bits", default=bits),
        group_size=fields.size("group_size", default=group_size),
        mode=mode,
    )


def choices(values: Sequence[int | str]) -> str:
    """The values for a message: "2, 3 or 4"."""
    if len(values) == 1:
        return str(values[0])
    return ", ".join(map(str, values[:-1])) + f" or {values[-1]}"
