"""What a conversion's command line takes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from magistral_mlx.convert.conversion import convert
from magistral_mlx.convert.rounding.progress import ProgressCallback
from magistral_mlx.convert.rounding.recipe import RECIPES, TARGET_BITS
from magistral_mlx.convert.weights import NoteCallback


@dataclass(frozen=True, slots=True, kw_only=True)
class Converting:
    """How to convert; see `magistral_mlx.convert.convert`."""

    bits: Annotated[int, typer.Option(help="Bits a weight: 2, 3, 4, 5, 6 or 8.")] = 4
    group_size: Annotated[int, typer.Option(help="Weights that share a scale: 32, 64 or 128.")] = 64
    recipe: Annotated[
        str | None,
        typer.Option(
            help="How the matrices are stored, instead of --bits: " + ", ".join(RECIPES) + ".",
            show_default="q4",
        ),
    ] = None
    target_bits: Annotated[
        float | None,
        typer.Option(
            help="Bits a weight of the recipe mixed, scales included.",
            show_default=str(TARGET_BITS),
        ),
    ] = None
    module: Annotated[
        list[str] | None,
        typer.Option(
            help="An exception, as '*.v_proj=q6' or 'lm_head=q8/32'; may be repeated.",
            show_default=False,
        ),
    ] = None
    rtn: Annotated[
        bool, typer.Option("--rtn", help="Round plainly, as mlx-lm does: faster, less exact.")
    ] = False
    importance: Annotated[
        Path | None,
        typer.Option(
            help="A file that says what the error of each column counts; the command importance "
            "makes one.",
            show_default=False,
        ),
    ] = None
    calibrate: Annotated[
        Path | None,
        typer.Option(
            help="A text to run through the model while it is quantised: slower, more exact. An "
            "embedding that is the head too takes --importance beside it.",
            show_default=False,
        ),
    ] = None
    dtype: Annotated[
        str, typer.Option(help="Type of scales and norms: bfloat16, float16 or float32.")
    ] = "bfloat16"
    force: Annotated[bool, typer.Option("--force", help="Replace an older output.")] = False
    restart: Annotated[
        bool, typer.Option("--restart", help="Do not go on from a run that ended early.")
    ] = False
    revision: Annotated[
        str | None,
        typer.Option(help="Branch, tag or commit on the Hub.", show_default=False),
    ] = None
    keep_source: Annotated[
        bool,
        typer.Option("--keep-source", help="Download the Hub's files and keep them in its cache."),
    ] = False
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            help="tekken.json or tokenizer.json for a GGUF file, instead of one rebuilt from its "
            "vocabulary.",
            show_default=False,
        ),
    ] = None

    @property
    def kind(self) -> str:
        """What the matrices become, in a few words."""
        return self.recipe or f"{self.bits} bits"

    def run(
        self,
        source: str,
        output: Path | None,
        *,
        on_progress: ProgressCallback,
        on_note: NoteCallback,
    ) -> Path:
        """The folder that was written. Raises what `convert` raises."""
        return convert(
            source,
            output,
            bits=self.bits,
            group_size=self.group_size,
            recipe=self.recipe,
            target_bits=self.target_bits,
            modules=self.module or (),
            rtn=self.rtn,
            importance=self.importance,
            calibrate=self.calibrate,
            dtype=self.dtype,
            force=self.force,
            restart=self.restart,
            revision=self.revision,
            keep_source=self.keep_source,
            tokenizer=self.tokenizer,
            on_progress=on_progress,
            on_note=on_note,
        )
