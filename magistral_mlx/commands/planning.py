"""The command that says what fits."""

from functools import partial
from typing import Annotated

import typer

from magistral_mlx.commands import options as opt
from magistral_mlx.commands.exit_codes import consoles, exit_codes
from magistral_mlx.errors import RequestError
from magistral_mlx.spec import HUB_ID
from magistral_mlx.terminal.plan import run_plan, run_plan_of_macs, run_plan_of_stages


def plan_command(
    model: Annotated[
        str | None,
        typer.Option(help="A converted model, as for ask.", show_default=f"{HUB_ID} at 4 bits"),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            help="Plan for a Mac of this size, as 32GB; with --split layers for several, as "
            "16GB,24GB, rank 0's first.",
            show_default="this machine",
        ),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(help="Tokens that prompt and reply may hold.", show_default="what fits"),
    ] = None,
    kv_bits: opt.KVBits = None,
    sequences: Annotated[
        int, typer.Option(min=1, help="Replies at once, each with a full window.")
    ] = 1,
    ranks: Annotated[int, typer.Option(min=1, help="Macs that the model is divided between.")] = 1,
    split: opt.SplitBy = "heads",
    macs: Annotated[
        bool, typer.Option("--macs", help="One line for every Mac that is sold.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, in bytes.")] = False,
) -> None:
    """Show what fits: weights, KV cache at 16, 8 and 4 bits, activations, headroom."""
    console, errors = consoles()
    with exit_codes(errors):
        if macs and memory is not None:
            raise RequestError("--macs shows every size: leave --memory out, or --macs.")
        if macs and split == "layers":
            raise RequestError("--macs plans for equal Macs: leave --split out, or --macs.")
        if macs:
            run = partial(run_plan_of_macs)
        else:
            run = partial(run_plan_of_stages if split == "layers" else run_plan, memory=memory)
        run(
            model,
            window=window,
            kv_bits=kv_bits,
            sequences=sequences,
            ranks=ranks,
            as_json=as_json,
            console=console,
        )
