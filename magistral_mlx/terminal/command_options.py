"""The options that several commands share, and how they become values."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from magistral_mlx.kv.disk.folder import parse_disk_size
from magistral_mlx.opening import Opening
from magistral_mlx.options import GenerationOptions
from magistral_mlx.ranks.layer_split import Split
from magistral_mlx.sampling.sampler import SamplingParams
from magistral_mlx.spec import TEMPERATURE, TOP_P, WINDOW

Dtype = Literal["bfloat16", "float16", "float32"]

Model = Annotated[
    str | None,
    typer.Option(
        help="demo, the folder of a converted model, or the Hub id it was converted from. "
        "Without it, the last model is used.",
        show_default=False,
    ),
]
Temperature = Annotated[
    float,
    typer.Option(help="Sampling temperature; 0 always takes the most likely token."),
]
TopP = Annotated[
    float,
    typer.Option(
        help="Sample from the smallest set of tokens whose probabilities add up to this; 1: off."
    ),
]
TopK = Annotated[int, typer.Option(help="Sample from the k most likely tokens; 0: off.")]
MinP = Annotated[
    float,
    typer.Option(help="Drop tokens below this fraction of the top token's probability; 0: off."),
]
Seed = Annotated[
    int | None,
    typer.Option(
        help="Seed for sampling: the same seed gives the same reply.", show_default="random"
    ),
]
MaxTokens = Annotated[
    int | None,
    typer.Option(
        help="Maximum number of output tokens, reasoning included.",
        show_default="what the window holds",
    ),
]
Think = Annotated[
    int | None,
    typer.Option(
        "--think",
        help="Thinking budget: maximum number of reasoning tokens.",
        show_default="what the window holds",
    ),
]
ReasoningMode = Annotated[
    Literal["auto", "on", "off"],
    typer.Option(
        "--reasoning",
        metavar="MODE",
        help="Reason before the answer: auto: the model decides; on: always; off: never.",
    ),
]
System = Annotated[
    str | None,
    typer.Option(help="Your instructions for the system prompt.", show_default=False),
]
SystemMode = Annotated[
    Literal["compose", "replace"],
    typer.Option(
        metavar="MODE",
        help="compose: add --system to the model's system prompt; replace: use --system alone.",
    ),
]
Window = Annotated[
    int | None,
    typer.Option(
        help="Context length: maximum number of tokens, prompt and reply together.",
        show_default=f"{WINDOW:,}, or what fits",
    ),
]
ComputeDtype = Annotated[
    Dtype | None,
    typer.Option(
        "--dtype",
        metavar="TYPE",
        help="Type to compute in: bfloat16, float16 or float32.",
        show_default="the checkpoint's type; float32 on a CPU",
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
KVStart = Annotated[
    int,
    typer.Option("--kv-start", help="Number of first tokens whose KV is never quantised."),
]
KVDisk = Annotated[
    str | None,
    typer.Option(
        "--kv-disk",
        metavar="SIZE",
        help="Keep up to this much KV on disk, for example 20GB: prompts that share a prefix "
        "start sooner, also after a restart. The files reveal the prompts; only your user can "
        "read them.",
        show_default="none",
    ),
]
Wired = Annotated[
    bool,
    typer.Option(
        "--wired",
        help="Keep model and KV in memory that macOS cannot page out. Off by default: it has made "
        "32 GB Macs panic.",
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
class ReplyOptions:
    """The options of `ask` and `chat` for a reply."""

    system: System = None
    system_mode: SystemMode = "compose"
    reasoning: ReasoningMode = "auto"
    think: Think = None
    max_tokens: MaxTokens = None
    temperature: Temperature = TEMPERATURE
    top_p: TopP = TOP_P
    top_k: TopK = 0
    min_p: MinP = 0.0
    seed: Seed = None

    def generation(self) -> GenerationOptions:
        """The same for the model. Raises RequestError for impossible values."""
        return GenerationOptions(
            sampling=SamplingParams(
                temperature=self.temperature,
                top_p=self.top_p,
                top_k=self.top_k,
                min_p=self.min_p,
                seed=self.seed,
            ),
            max_tokens=self.max_tokens,
            thinking_budget=self.think,
            reasoning=self.reasoning,
            system=self.system_mode,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OpeningOptions:
    """The options of every command that opens a model. kv_disk: a size, for example "20GB"."""

    window: Window = None
    dtype: ComputeDtype = None
    kv_bits: KVBits = None
    kv_start: KVStart = 0
    kv_disk: KVDisk = None
    wired: Wired = False
    split: SplitBy = "heads"

    def opening(self) -> Opening:
        """The same for `open_model`. Raises RequestError for an unreadable size."""
        return Opening(
            window=self.window,
            dtype=self.dtype,
            kv_bits=self.kv_bits,
            kv_start=self.kv_start,
            kv_disk=None if self.kv_disk is None else parse_disk_size(self.kv_disk),
            wired=self.wired,
            split=self.split,
        )
