"""Recipes: how many bits each matrix gets, and how it is rounded."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from math import prod

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.quantization import DEFAULTS, Quantization, choices
from magistral_mlx.checkpoint.weight_shapes import plain_shapes
from magistral_mlx.device import DTYPES
from magistral_mlx.errors import CheckpointError

AFFINE = {"q2": 2, "q3": 3, "q4": 4, "q5": 5, "q6": 6, "q8": 8}
FLOATING = {mode: Quantization(*DEFAULTS[mode], mode) for mode in ("mxfp4", "mxfp8", "nvfp4")}
PLAIN = "bf16"
MIXED = "mixed"
RECIPES = (*AFFINE, *FLOATING, PLAIN, MIXED)

TARGET_BITS = 4.8
"""Default bits per weight of `mixed`, scales and biases included."""

STEP_UP = {2: 4, 3: 5, 4: 6, 5: 8, 6: 8}

FIRST_IN_LINE = ("v_proj", "k_proj", "lm_head", "o_proj")
"""Small matrices that `mixed` gives more bits first."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How weights are stored.

    modules: exceptions as "PATTERN=RECIPE"; later ones win. A pattern is a shell pattern for
    mlx-lm's module names, and a recipe may have a group size: "*.v_proj=q6/32". dtype: of scales,
    biases and norms. rtn: round plainly, instead of fitting scales and biases.
    """

    name: str
    group_size: int = 64
    target_bits: float | None = None
    modules: tuple[str, ...] = ()
    dtype: str = "bfloat16"
    rtn: bool = False

    def __post_init__(self) -> None:
        if self.name not in RECIPES:
            raise CheckpointError(
                f"Recipe {self.name!r} does not exist: choose {choices(RECIPES)}."
            )
        if self.target_bits is not None and self.name != MIXED:
            raise CheckpointError(
                f"{self.target_bits} bits per weight are a target of recipe {MIXED}, not of "
                f"{self.name}: leave out --target-bits or choose --recipe {MIXED}."
            )
        if self.dtype not in DTYPES:
            raise CheckpointError(
                f"dtype {self.dtype!r} is not supported: choose {choices([*DTYPES])}."
            )

    def apply(self, config: ModelConfig) -> ModelConfig:
        """The config of the output. Raises CheckpointError when the recipe does not fit."""
        modules = _matrices(config)
        default: Quantization | None
        if self.name == MIXED:
            default, chosen = _mixed(modules, self.target_bits or TARGET_BITS, self.group_size)
        else:
            default, chosen = _quantization(self.name, self.group_size), {}
        for text in self.modules:
            pattern, quantization = _exception(text, self.group_size)
            found = [name for name in modules if fnmatchcase(name, pattern)]
            if not found:
                raise CheckpointError(
                    f"No module matches {pattern!r}: use a pattern like '*.v_proj', 'lm_head' or "
                    "'model.layers.0.*'."
                )
            chosen |= dict.fromkeys(found, quantization)
        own = tuple((name, value) for name, value in sorted(chosen.items()) if value != default)
        if default is None and own:
            raise CheckpointError(
                f"Recipe {PLAIN} stores all modules alike: choose a quantised recipe and keep "
                f"modules with PATTERN={PLAIN}."
            )
        return replace(config, dtype=self.dtype, quantization=default, module_quantization=own)

    def as_json(self) -> dict[str, object]:
        """The recipe as journal and manifest record it."""
        return {
            "recipe": self.name,
            "group_size": self.group_size,
            "target_bits": self.target_bits,
            "modules": list(self.modules),
            "dtype": self.dtype,
            "method": "rtn" if self.rtn else "optimal",
        }


def _matrices(config: ModelConfig) -> dict[str, int]:
    """Module names and their numbers of weights."""
    return {
        name.removesuffix(".weight"): prod(shape)
        for name, shape in plain_shapes(config).items()
        if len(shape) > 1
    }


def _quantization(name: str, group_size: int) -> Quantization | None:
    if name == PLAIN:
        return None
    return FLOATING.get(name) or Quantization(AFFINE[name], group_size)


def _exception(text: str, group_size: int) -> tuple[str, Quantization | None]:
    pattern, _, wanted = text.partition("=")
    name, _, group = wanted.partition("/")
    if not pattern or name not in RECIPES or name == MIXED or (group and not group.isdigit()):
        raise CheckpointError(
            f"Module rule {text!r} is not understood: write PATTERN=RECIPE, for example "
            "'*.v_proj=q6' or 'lm_head=q8/32'."
        )
    return pattern, _quantization(name, int(group) if group else group_size)


def _mixed(
    modules: Mapping[str, int], target: float, group_size: int
) -> tuple[Quantization, dict[str, Quantization | None]]:
    """The most bits that the target allows for all modules, and more for some up to the target."""
    overhead = 32 / group_size
    fitting = [bits for bits in AFFINE.values() if bits + overhead <= target and bits in STEP_UP]
    if not fitting or target > 8 + overhead:
        raise CheckpointError(
            f"{target} bits per weight cannot be met: choose from {2 + overhead} to {8 + overhead}."
        )
    bits = max(fitting)
    spare = (target - bits - overhead) * sum(modules.values())
    more = Quantization(STEP_UP[bits], group_size)
    chosen: dict[str, Quantization | None] = {}
    for name in _by_worth(modules):
        cost = (more.bits - bits) * modules[name]
        if cost <= spare:
            chosen[name] = more
            spare -= cost
    return Quantization(bits, group_size), chosen


def _by_worth(modules: Mapping[str, int]) -> list[str]:
    """Modules in the order in which they get more bits.

    FIRST_IN_LINE, then down_proj, whose inputs have the largest outliers, from both ends of the
    model to its middle; then the rest.
    """
    layers = 1 + max((_layer(name) for name in modules), default=0)

    def key(name: str) -> tuple[int, int]:
        kind = name.rpartition(".")[2]
        if kind in FIRST_IN_LINE:
            return FIRST_IN_LINE.index(kind), 0
        from_end = min(_layer(name), layers - 1 - _layer(name))
        return len(FIRST_IN_LINE) + (kind != "down_proj"), from_end

    return sorted(modules, key=key)


def _layer(name: str) -> int:
    parts = name.split(".")
    return int(parts[2]) if len(parts) > 2 and parts[2].isdigit() else 0
