"""Recipes: how many bits each matrix gets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from math import prod

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.quantization import Quantization, choices
from magistral_mlx.checkpoint.weight_shapes import plain_shapes
from magistral_mlx.errors import CheckpointError

AFFINE = {"q2": 2, "q3": 3, "q4": 4, "q5": 5, "q6": 6, "q8": 8}
FLOATING = {
    "mxfp4": Quantization(4, 32, "mxfp4"),
    "mxfp8": Quantization(8, 32, "mxfp8"),
    "nvfp4": Quantization(4, 16, "nvfp4"),
}
PLAIN = "bf16"
MIXED = "mixed"
RECIPES = (*AFFINE, *FLOATING, PLAIN, MIXED)

TARGET_BITS = 4.8
"""Bits a weight of `mixed`, scales and biases included, when none are asked for."""

STEP_UP = {2: 4, 3: 5, 4: 6, 5: 8, 6: 8}

FIRST_IN_LINE = ("v_proj", "k_proj", "lm_head", "o_proj")
"""What `mixed` gives more bits first: small matrices that everything passes through."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the user asked for.

    modules: "PATTERN=RECIPE", later ones win; a pattern of the shell over mlx-lm's module names, a
    recipe with an optional group size: "*.v_proj=q6/32".
    """

    name: str
    group_size: int = 64
    target_bits: float | None = None
    modules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in RECIPES:
            raise CheckpointError(
                f"Recipe {self.name!r} does not exist: choose {choices(RECIPES)}."
            )
        if self.target_bits is not None and self.name != MIXED:
            raise CheckpointError(
                f"{self.target_bits} bits a weight are a target of recipe {MIXED}, not of "
                f"{self.name}: leave out --target-bits or choose --recipe {MIXED}."
            )

    def apply(self, config: ModelConfig) -> ModelConfig:
        """The config of the converted model; CheckpointError when something does not fit."""
        modules = _matrices(config)
        default, chosen = self._base(modules)
        for text in self.modules:
            pattern, quantization = _override(text, self.group_size)
            found = [name for name in modules if fnmatchcase(name, pattern)]
            if not found:
                raise CheckpointError(
                    f"No module matches {pattern!r}: patterns are like '*.v_proj', 'lm_head' or "
                    "'model.layers.0.*'."
                )
            chosen |= dict.fromkeys(found, quantization)
        own = tuple((name, value) for name, value in sorted(chosen.items()) if value != default)
        if default is None and own:
            raise CheckpointError(
                f"Recipe {PLAIN} stores all modules alike: choose a quantised recipe and keep "
                f"modules with PATTERN={PLAIN}."
            )
        return _with(config, default, own)

    def _base(
        self, modules: Mapping[str, int]
    ) -> tuple[Quantization | None, dict[str, Quantization | None]]:
        if self.name != MIXED:
            return _quantization(self.name, self.group_size), {}
        return _mixed(modules, self.target_bits or TARGET_BITS, self.group_size)


def _with(
    config: ModelConfig,
    default: Quantization | None,
    own: tuple[tuple[str, Quantization | None], ...],
) -> ModelConfig:
    return replace(config, quantization=default, module_quantization=own)


def _quantization(name: str, group_size: int) -> Quantization | None:
    if name == PLAIN:
        return None
    return FLOATING.get(name) or Quantization(AFFINE[name], group_size)


def _override(text: str, group_size: int) -> tuple[str, Quantization | None]:
    pattern, _, wanted = text.partition("=")
    name, _, group = wanted.partition("/")
    if not pattern or name not in RECIPES or name == MIXED or (group and not group.isdigit()):
        raise CheckpointError(
            f"Module rule {text!r} is not understood: write PATTERN=RECIPE, as '*.v_proj=q6' or "
            "'lm_head=q8/32'."
        )
    return pattern, _quantization(name, int(group) if group else group_size)


def _mixed(
    modules: Mapping[str, int], target: float, group_size: int
) -> tuple[Quantization, dict[str, Quantization | None]]:
    """The most bits that the target allows everywhere, and more for some modules up to it."""
    overhead = 32 / group_size
    fitting = [bits for bits in AFFINE.values() if bits + overhead <= target and bits in STEP_UP]
    if not fitting or target > 8 + overhead:
        raise CheckpointError(
            f"{target} bits a weight cannot be met: choose from {2 + overhead} to {8 + overhead}."
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

    Then down_proj, whose inputs have the largest outliers, from both ends of the model to its
    middle; the rest after that.
    """
    kinds = [name.rpartition(".")[2] for name in modules]
    layers = 1 + max((_layer(name) for name in modules), default=0)

    def rank(item: tuple[str, str]) -> tuple[int, int]:
        name, kind = item
        if kind in FIRST_IN_LINE:
            return FIRST_IN_LINE.index(kind), 0
        from_end = min(_layer(name), layers - 1 - _layer(name))
        return len(FIRST_IN_LINE) + (kind != "down_proj"), from_end

    return [name for name, _ in sorted(zip(modules, kinds, strict=True), key=rank)]


def _layer(name: str) -> int:
    parts = name.split(".")
    return int(parts[2]) if len(parts) > 2 and parts[2].isdigit() else 0


def _matrices(config: ModelConfig) -> dict[str, int]:
    """Module names and their numbers of weights."""
    shapes = plain_shapes(config)
    return {
        name.removesuffix(".weight"): prod(shape)
        for name, shape in shapes.items()
        if len(shape) > 1
    }


def recipe_of(
    recipe: str | None,
    *,
    bits: int,
    group_size: int,
    target_bits: float | None,
    modules: Sequence[str],
) -> Recipe:
    """The recipe by name, or the one of so many bits when none is named."""
    name = recipe or f"q{bits}"
    if recipe is None and name not in AFFINE:
        Quantization(bits, group_size)  # refuses with the bits that exist
    return Recipe(name, group_size, target_bits, tuple(modules))
