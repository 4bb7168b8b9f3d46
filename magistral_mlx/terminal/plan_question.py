"""What `plan` is asked about."""

from dataclasses import dataclass
from typing import Annotated

import typer

from magistral_mlx.terminal import options as opt
from magistral_mlx.spec import HUB_ID


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanQuestion:
    """The model and the machines."""

    model: Annotated[
        str | None,
        typer.Option(help="A converted model, as for ask.", show_default=f"{HUB_ID} at 4 bits"),
    ] = None
    memory: Annotated[
        str | None,
        typer.Option(
            help="Plan for a Mac of this size, as 32GB; with --split layers for several, as "
            "16GB,24GB, rank 0's first.",
            show_default="this machine",
        ),
    ] = None
    window: Annotated[
        int | None,
        typer.Option(help="Tokens that prompt and reply may hold.", show_default="what fits"),
    ] = None
    kv_bits: opt.KVBits = None
    sequences: Annotated[
        int, typer.Option(min=1, help="Replies at once, each with a full window.")
    ] = 1
    ranks: Annotated[int, typer.Option(min=1, help="Macs that the model is divided between.")] = 1
