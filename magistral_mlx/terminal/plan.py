"""The plan of a model on this machine, or on a Mac one asks about."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.convert import default_output
from magistral_mlx.convert.sources.locations import DEMO
from magistral_mlx.errors import RequestError
from magistral_mlx.folders import state_folder
from magistral_mlx.machine import (
    MAC_SIZES,
    MemoryLimit,
    mac_limit,
    machine_limit,
    parse_memory,
)
from magistral_mlx.memory.plan import MemoryPlan, MemoryPlanError, magistral_small, plan
from magistral_mlx.memory.stages import plan_stages
from magistral_mlx.memory.this_machine import plan_for_this_machine, plan_stages_for_this_machine
from magistral_mlx.opening import choose_model
from magistral_mlx.spec import HUB_ID
from magistral_mlx.terminal import command_options as opt
from magistral_mlx.terminal.ask import print_json
from magistral_mlx.terminal.plan_table import macs_view, plan_view, stages_view


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


def run_plan(asked: PlanQuestion, *, as_json: bool, console: Console) -> None:
    """Print the plan of a converted model, by default of Magistral Small at 4 bits.

    Raises MemoryPlanError when nothing fits, RequestError or CheckpointError for a wrong option.
    """
    if asked.memory is not None and "," in asked.memory:
        raise RequestError(
            f"--memory {asked.memory} names several Macs, and heads are divided evenly: give one "
            "size and --ranks, or --split layers."
        )
    name, config = _shape(asked.model)
    if asked.memory is None:
        made = plan_for_this_machine(
            config,
            window=asked.window,
            kv_bits=asked.kv_bits,
            sequences=asked.sequences,
            ranks=asked.ranks,
        )
    else:
        made = _plan_for(asked, config, mac_limit(parse_memory(asked.memory)))
    if as_json:
        print_json({"model": name, **asdict(made)}, console)
    else:
        console.print(plan_view(made, title=name))


def run_plan_of_stages(asked: PlanQuestion, *, as_json: bool, console: Console) -> None:
    """Print what each rank holds of a model that is divided by layers. Raises as `run_plan`.

    The memory asked about is one size, of all ranks, or one for each, with commas between.
    """
    limits = _limits(asked.memory, asked.ranks)
    name, config = _shape(asked.model)
    plan_here = plan_stages_for_this_machine if asked.memory is None else plan_stages
    made = plan_here(
        config,
        limits,
        window=asked.window,
        kv_bits=asked.kv_bits,
        sequences=asked.sequences,
    )
    if as_json:
        print_json({"model": name, "ranks": [asdict(one) for one in made]}, console)
    else:
        console.print(stages_view(made, title=name))


def run_plan_of_macs(asked: PlanQuestion, *, as_json: bool, console: Console) -> None:
    """Print what every Mac that is sold holds of a model. Raises as `run_plan`, but for no room."""
    name, config = _shape(asked.model)
    name = f"{name}, divided between {asked.ranks} Macs" if asked.ranks > 1 else name
    plans: dict[int, MemoryPlan | None] = {}
    for memory in MAC_SIZES:
        try:
            plans[memory] = _plan_for(asked, config, mac_limit(memory))
        except MemoryPlanError:
            plans[memory] = None
    if as_json:
        print_json([asdict(made) for made in plans.values() if made is not None], console)
    else:
        console.print(macs_view(plans, title=name))


def _plan_for(asked: PlanQuestion, config: ModelConfig, limit: MemoryLimit) -> MemoryPlan:
    return plan(
        config,
        limit,
        window=asked.window,
        kv_bits=asked.kv_bits,
        sequences=asked.sequences,
        ranks=asked.ranks,
    )


def _limits(memory: str | None, ranks: int) -> list[MemoryLimit]:
    sizes = [mac_limit(parse_memory(size)) for size in memory.split(",")] if memory else []
    if len(sizes) < 2 and ranks < 2:
        raise RequestError(
            "--split layers is for several ranks: give the memory of each, as --memory 16GB,24GB, "
            "or their number, as --ranks 3."
        )
    if len(sizes) > 1 and ranks not in (1, len(sizes)):
        raise RequestError(
            f"--ranks is {ranks} and --memory names {len(sizes)} Macs: leave --ranks out."
        )
    if len(sizes) > 1:
        return sizes
    return [sizes[0] if sizes else machine_limit()] * ranks


def _shape(model: str | None) -> tuple[str, ModelConfig]:
    if model is None:
        return "Magistral Small 2506, 4-bit weights", magistral_small()
    choice = choose_model(model, state=state_folder())
    folder = default_output(DEMO, bits=4) if choice == DEMO else Path(choice)
    return folder.name, open_checkpoint(folder).config
