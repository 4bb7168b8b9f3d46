"""The command that says what fits."""

from typing import Annotated

import typer

from magistral_mlx.errors import RequestError
from magistral_mlx.option_groups import takes_groups
from magistral_mlx.terminal import command_options as opt
from magistral_mlx.terminal.exit_codes import consoles, exit_codes
from magistral_mlx.terminal.plan import PlanQuestion, run_plan, run_plan_of_macs, run_plan_of_stages


@takes_groups
def plan_command(
    *,
    asked: PlanQuestion,
    split: opt.SplitBy = "heads",
    macs: Annotated[
        bool, typer.Option("--macs", help="One line for every Mac that is sold.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, in bytes.")] = False,
) -> None:
    """Show what fits: weights, KV cache at 16, 8 and 4 bits, activations, headroom."""
    console, errors = consoles()
    with exit_codes(errors):
        if macs and asked.memory is not None:
            raise RequestError("--macs shows every size: leave --memory out, or --macs.")
        if macs and split == "layers":
            raise RequestError("--macs plans for equal Macs: leave --split out, or --macs.")
        if macs:
            run_plan_of_macs(asked, as_json=as_json, console=console)
        elif split == "layers":
            run_plan_of_stages(asked, as_json=as_json, console=console)
        else:
            run_plan(asked, as_json=as_json, console=console)
