"""The options that `ask` and `chat` share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from magistral_mlx.ranks.layer_split import Split
from magistral_mlx.spec import TEMPERATURE, TOP_P, WINDOW

Dtype = Literal["bfloat16", "float16", "float32"]

Model = Annotated[
    str | None,
    typer.Option(
        help="demo, the folder of a converted model, or the Hub id of one that was converted. "
        "By default the model used last.",
        show_default=False,
    ),
]
Temperature = Annotated[float, typer.Option(help="0 always takes the most likely token.")]
TopP = Annotated[float, typer.Option(help="Draw from the most likely tokens of this mass.")]
TopK = Annotated[int, typer.Option(help="Draw from so many tokens at most; 0: no limit.")]
MinP = Annotated[float, typer.Option(help="Leave out tokens less likely than this, relatively.")]
Seed = Annotated[
    int | None, typer.Option(help="The same seed gives the same reply.", show_default=False)
]
MaxTokens = Annotated[
    int | None,
    typer.Option(help="Most tokens of reasoning and answer together.", show_default="the window"),
]
Think = Annotated[
    int | None,
    typer.Option("--think", help="Most tokens of reasoning.", show_default="what the window holds"),
]
ReasoningMode = Annotated[
    Literal["auto", "on", "off"],
    typer.Option(
        "--reasoning",
        metavar="MODE",
        help="auto lets the model decide to think, on makes it, off keeps it from it.",
    ),
]
System = Annotated[
    str | None,
    typer.Option(help="Instructions of your own for the system prompt.", show_default=False),
]
SystemMode = Annotated[
    Literal["compose", "replace"],
    typer.Option(
        metavar="MODE",
        help="compose adds --system to the model's own system prompt, replace uses it alone.",
    ),
]
Window = Annotated[
    int | None,
    typer.Option(
        help="Tokens for prompt and reply together.",
        show_default=f"{WINDOW:,}, or what fits",
    ),
]
ComputeDtype = Annotated[
    Dtype | None,
    typer.Option(
        "--dtype",
        metavar="TYPE",
        help="bfloat16, float16 or float32 to compute in.",
        show_default="the checkpoint's own type; float32 on a CPU",
    ),
]
KVBits = Annotated[
    int | None,
    typer.Option(
        "--kv-bits",
        help="Bits a value of the KV cache: 16 (as computed), 8 or 4.",
        show_default="as many as leave the window most of its length",
    ),
]
KVStart = Annotated[
    int,
    typer.Option("--kv-start", help="Tokens at the beginning whose KV is never quantised."),
]
Wired = Annotated[
    bool,
    typer.Option(
        "--wired",
        help="Keep model and KV in memory that macOS cannot page out. Off by default: 32 GB Macs "
        "have panicked with it.",
    ),
]
SplitBy = Annotated[
    Split,
    typer.Option(
        "--split",
        metavar="BY",
        help="How several ranks divide the model: heads (equal Macs) or layers (by their memory).",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        file_okay=False,
        help="Where the page's conversations are kept.",
        show_default="this user's data folder",
    ),
]
NoHistory = Annotated[
    bool, typer.Option("--no-history", help="Keep the page's conversations in memory only.")
]
KVDisk = Annotated[
    str | None,
    typer.Option(
        "--kv-disk",
        metavar="SIZE",
        help="Disk space, as 20GB, to keep processed prompts in, so that those that begin alike "
        "start sooner the next time. They can be read back from the files, by this user alone.",
        show_default="none",
    ),
]

DEFAULT_TEMPERATURE = TEMPERATURE
DEFAULT_TOP_P = TOP_P
