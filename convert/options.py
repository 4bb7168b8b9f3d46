"""The options of a conversion, on the command line and in Python."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from magistral_mlx.checkpoint.quantization import Quantization
from magistral_mlx.convert.rounding.recipe import RECIPES, TARGET_BITS, Recipe
from magistral_mlx.convert.sources.open_source import source_name
from magistral_mlx.folders import models_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionOptions:
    """How to convert a checkpoint; the help of each field says what it does.

    Without `rtn`, scales and biases have the least squared error. `calibrate` runs a text through
    the model layer by layer, so that later columns compensate the error of earlier ones. `force`
    keeps the existing output until the new one is complete.
    """

    bits: Annotated[int, typer.Option(help="Bits per weight: 2, 3, 4, 5, 6 or 8.")] = 4
    group_size: Annotated[int, typer.Option(help="Weights that share a scale: 32, 64 or 128.")] = 64
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Quantisation recipe, instead of --bits: " + ", ".join(RECIPES) + ".",
            show_default="q4",
        ),
    ] = None
    target_bits: Annotated[
        float | None,
        typer.Option(
            help="Average bits per weight for recipe mixed, scales included.",
            show_default=str(TARGET_BITS),
        ),
    ] = None
    modules: Annotated[
        list[str] | None,
        typer.Option(
            "--module",
            help="Another recipe for some modules, for example '*.v_proj=q6' or 'lm_head=q8/32'; "
            "may be repeated.",
            show_default=False,
        ),
    ] = None
    rtn: Annotated[
        bool,
        typer.Option("--rtn", help="Round to nearest, as mlx-lm does: faster, less exact."),
    ] = False
    importance: Annotated[
        Path | None,
        typer.Option(
            help="Importance matrix: a file made by the command importance.", show_default=False
        ),
    ] = None
    calibrate: Annotated[
        Path | None,
        typer.Option(
            help="Calibration text, for GPTQ: slower, more exact. --importance may be added if the "
            "embedding is also the head.",
            show_default=False,
        ),
    ] = None
    dtype: Annotated[
        str, typer.Option(help="Type of scales and norms: bfloat16, float16 or float32.")
    ] = "bfloat16"
    force: Annotated[bool, typer.Option("--force", help="Replace an existing output.")] = False
    restart: Annotated[bool, typer.Option("--restart", help="Start again instead of resuming.")] = (
        False
    )
    revision: Annotated[
        str | None,
        typer.Option(help="Branch, tag or commit on the Hub.", show_default=False),
    ] = None
    keep_source: Annotated[
        bool,
        typer.Option("--keep-source", help="Download the files to the Hub's cache and keep them."),
    ] = False
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            help="tekken.json or tokenizer.json for a GGUF file, instead of its vocabulary.",
            show_default=False,
        ),
    ] = None

    def chosen_recipe(self) -> Recipe:
        """The recipe. Raises CheckpointError for options that do not exist or contradict."""
        name = self.recipe or f"q{self.bits}"
        if name not in RECIPES and self.recipe is None:
            Quantization(self.bits, self.group_size)  # refuses with the bits that exist
        return Recipe(
            name,
            self.group_size,
            self.target_bits,
            tuple(self.modules or ()),
            dtype=self.dtype,
            rtn=self.rtn,
        )


def default_output(source: str | Path, *, bits: int, recipe: str | None = None) -> Path:
    """The folder for a source's conversion, named from the source and the bits or recipe."""
    name = recipe or f"q{bits}"
    suffix = f"{name[1:]}bit" if name[0] == "q" and name[1:].isdigit() else name
    return models_folder() / f"{source_name(source)}-{suffix}"
