"""The options that several commands share, and how they become values."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from magistral_mlx.machine import parse_size
from magistral_mlx.opening import Opening
from magistral_mlx.options import GenerationOptions
from magistral_mlx.ranks.division import Split
from magistral_mlx.sampling.sampler import SamplingParams
from magistral_mlx.spec import TEMPERATURE, TOP_P, WINDOW

Model = Annotated[
    str | None,
    typer.Option(
        help="demo, the folder of a converted model, or the Hub id it was converted from. "
        "Without it, the last model is used.",
        show_default=False,
    ),
]
Window = Annotated[
    int | None,
    typer.Option(
        help="Context length: maximum number of tokens, prompt and reply together.",
        show_default=f"{WINDOW:,}, or what fits",
    ),
]
KVBits = Annotated[
    int | None,
    typer.Option(
        "--kv-bits",
        help="Bits of a value in the KV cache: 16 (not quantised), 8 or 4.",
        show_default="16; fewer if the window would otherwise shrink by more than a quarter",
    ),
]
SplitBy = Annotated[
    Split,
    typer.Option(
        "--split",
        metavar="BY",
        help="How several ranks divide the model: by heads (equal Macs) or layers (by memory).",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        file_okay=False,
        help="Folder for the page's conversations.",
        show_default="your user's data folder",
    ),
]
NoHistory = Annotated[
    bool, typer.Option("--no-history", help="Keep the page's conversations in memory only.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingOptions:
    """The options of a reply, and of the samples of an evaluation."""

    reasoning: Annotated[
        Literal["auto", "on", "off"],
        typer.Option(
            "--reasoning",
            metavar="MODE",
            help="Whether to reason before the answer. auto: the model decides; on: always; off: "
            "never.",
        ),
    ] = "auto"
    think: Annotated[
        int | None,
        typer.Option(
            "--think",
            help="Thinking budget: maximum number of reasoning tokens.",
            show_default="what the window holds",
        ),
    ] = None
    max_tokens: Annotated[
        int | None,
        typer.Option(
            help="Maximum number of output tokens, reasoning included.",
            show_default="what the window holds",
        ),
    ] = None
    temperature: Annotated[
        float | None,
        typer.Option(
            help="Sampling temperature; 0 always takes the most likely token.",
            show_default=str(TEMPERATURE),
        ),
    ] = None
    top_p: Annotated[
        float,
        typer.Option(
            help="Sample from the smallest set of tokens whose probabilities add up to this; "
            "1: off."
        ),
    ] = TOP_P
    top_k: Annotated[int, typer.Option(help="Sample from the k most likely tokens; 0: off.")] = 0
    min_p: Annotated[
        float,
        typer.Option(
            help="Drop tokens below this fraction of the top token's probability; 0: off."
        ),
    ] = 0.0
    seed: Annotated[
        int | None,
        typer.Option(
            help="Seed for sampling: the same seed gives the same reply.", show_default="random"
        ),
    ] = None

    def generation(self) -> GenerationOptions:
        """The same for the model. Raises RequestError for impossible values."""
        return GenerationOptions(
            sampling=SamplingParams(
                temperature=TEMPERATURE if self.temperature is None else self.temperature,
                top_p=self.top_p,
                top_k=self.top_k,
                min_p=self.min_p,
                seed=self.seed,
            ),
            max_tokens=self.max_tokens,
            thinking_budget=self.think,
            reasoning=self.reasoning,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyOptions(SamplingOptions):
    """The options of `ask` and `chat` for a reply."""

    system: Annotated[
        str | None,
        typer.Option(help="Your instructions, added to the system prompt.", show_default=False),
    ] = None
    system_mode: Annotated[
        Literal["compose", "replace"],
        typer.Option(
            metavar="MODE",
            help="compose: the model's system prompt and --system; replace: --system alone.",
        ),
    ] = "compose"

    def generation(self) -> GenerationOptions:
        """The same for the model. Raises RequestError for impossible values."""
        return replace(SamplingOptions.generation(self), system=self.system_mode)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """The options that the figures of an evaluation depend on."""

    window: Window = None
    dtype: Annotated[
        Literal["bfloat16", "float16", "float32"] | None,
        typer.Option(
            "--dtype",
            metavar="TYPE",
            help="Type to compute in: bfloat16, float16 or float32.",
            show_default="the checkpoint's type; float32 on a CPU",
        ),
    ] = None
    kv_bits: KVBits = None
    kv_start: Annotated[
        int,
        typer.Option("--kv-start", help="Number of first tokens whose KV is never quantised."),
    ] = 0

    def opening(self) -> Opening:
        """The same for `open_model`."""
        return Opening(
            window=self.window, dtype=self.dtype, kv_bits=self.kv_bits, kv_start=self.kv_start
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OpeningOptions(ModelOptions):
    """The options of every command that opens a model. kv_disk: a size, for example "20GB"."""

    kv_disk: Annotated[
        str | None,
        typer.Option(
            "--kv-disk",
            metavar="SIZE",
            help="Keep up to this much KV on disk, for example 20GB: prompts that share a prefix "
            "start sooner, also after a restart. The files reveal the prompts; only your user can "
            "read them.",
            show_default="none",
        ),
    ] = None
    wired: Annotated[
        bool,
        typer.Option(
            "--wired",
            help="Keep model and KV in memory that macOS cannot page out. Off by default: it has "
            "made 32 GB Macs panic.",
        ),
    ] = False
    split: SplitBy = "heads"

    def opening(self) -> Opening:
        """The same for `open_model`. Raises RequestError for an unreadable size."""
        kv_disk = None
        if self.kv_disk is not None:
            kv_disk = parse_size(self.kv_disk, what="Disk space", example="20GB", kilo=1000)
        return replace(
            ModelOptions.opening(self), kv_disk=kv_disk, wired=self.wired, split=self.split
        )
