"""The plan command: what fits on this machine, or on another Mac."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.convert import DEMO, default_output
from magistral_mlx.errors import RequestError
from magistral_mlx.folders import state_folder
from magistral_mlx.machine import GIB, MAC_SIZES, MemoryLimit, mac_limit, machine_limit, parse_size
from magistral_mlx.memory.needs import Workload
from magistral_mlx.memory.plan import MemoryPlan, MemoryPlanError, gigabytes, magistral_small, plan
from magistral_mlx.memory.stages import plan_stages
from magistral_mlx.opening import choose_model
from magistral_mlx.option_groups import takes_groups
from magistral_mlx.spec import HUB_ID
from magistral_mlx.terminal import command_options as opt
from magistral_mlx.terminal.console import consoles, exit_codes, print_json


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """The model to plan for, and the machines."""

    model: Annotated[
        str | None,
        typer.Option(help="A converted model, as for ask.", show_default=f"{HUB_ID} at 4 bits"),
    ] = None
    memory: Annotated[
        str | None,
        typer.Option(
            help="Plan for a Mac with this much memory, for example 32GB. With --split layers also "
            "for several Macs, for example 16GB,24GB, rank 0 first.",
            show_default="this machine",
        ),
    ] = None
    window: opt.Window = None
    kv_bits: opt.KVBits = None
    sequences: Annotated[
        int, typer.Option(min=1, help="Number of simultaneous replies, each with a full window.")
    ] = 1
    ranks: Annotated[int, typer.Option(min=1, help="Number of Macs that share the model.")] = 1
    split: opt.SplitBy = "heads"
    macs: Annotated[bool, typer.Option("--macs", help="Show one line for each Mac on sale.")] = (
        False
    )

    @property
    def mac_workload(self) -> Workload:
        """What a Mac must hold."""
        return Workload(window=self.window, kv_bits=self.kv_bits, sequences=self.sequences)

    def workload(self, config: ModelConfig) -> Workload:
        """What this machine, or the Macs that --memory names, must hold."""
        here = self.memory is None
        return self.mac_workload.on_this_machine(config) if here else self.mac_workload


@takes_groups
def plan_command(
    *,
    options: PlanOptions,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON; sizes are in bytes.")
    ] = False,
) -> None:
    """Show what fits: weights, KV cache at 16, 8 and 4 bits, activations, headroom."""
    console, errors = consoles()
    with exit_codes(errors):
        value, view = _plan(options)
        if as_json:
            print_json(value, console)
        else:
            console.print(view)


def _plan(options: PlanOptions) -> tuple[object, RenderableType]:
    """The plan for JSON and for people. Raises UserError for impossible options."""
    if options.macs:
        return _plan_of_macs(options)
    if options.split == "layers":
        return _plan_of_stages(options)
    memory = options.memory
    if memory is not None and "," in memory:
        raise RequestError(
            f"--memory {memory} names several Macs, and heads are divided evenly: give one size "
            "and --ranks, or --split layers."
        )
    name, config = _named_config(options.model)
    limit = machine_limit() if memory is None else mac_limit(parse_size(memory))
    made = plan(config, limit, options.workload(config), ranks=options.ranks)
    return {"model": name, **asdict(made)}, plan_view(made, title=name)


def _plan_of_stages(options: PlanOptions) -> tuple[object, RenderableType]:
    """What each rank holds of a model whose layers are divided."""
    limits = _limits(options.memory, options.ranks)
    name, config = _named_config(options.model)
    made = plan_stages(config, limits, options.workload(config))
    value = {"model": name, "ranks": [asdict(one) for one in made]}
    return value, stages_view(made, title=name)


def _plan_of_macs(options: PlanOptions) -> tuple[object, RenderableType]:
    """What each Mac on sale holds of a model."""
    if options.memory is not None:
        raise RequestError("--macs shows every size: leave out --memory or --macs.")
    if options.split == "layers":
        raise RequestError("--macs plans for equal Macs: leave out --split or --macs.")
    name, config = _named_config(options.model)
    name = f"{name}, divided between {options.ranks} Macs" if options.ranks > 1 else name
    plans: dict[int, MemoryPlan | None] = {}
    for memory in MAC_SIZES:
        try:
            limit = mac_limit(memory)
            plans[memory] = plan(config, limit, options.mac_workload, ranks=options.ranks)
        except MemoryPlanError:
            plans[memory] = None
    value = [asdict(made) for made in plans.values() if made is not None]
    return value, macs_view(plans, title=name)


def _limits(memory: str | None, ranks: int) -> list[MemoryLimit]:
    """The limit of each rank: one size is that of all ranks."""
    sizes = [mac_limit(parse_size(size)) for size in memory.split(",")] if memory else []
    if len(sizes) < 2 and ranks < 2:
        raise RequestError(
            "--split layers is for several ranks: give the memory of each, for example "
            "--memory 16GB,24GB, or their number, for example --ranks 3."
        )
    if len(sizes) > 1 and ranks not in (1, len(sizes)):
        raise RequestError(
            f"--ranks is {ranks}, but --memory names {len(sizes)} Macs: leave out --ranks."
        )
    if len(sizes) > 1:
        return sizes
    return [sizes[0] if sizes else machine_limit()] * ranks


def _named_config(model: str | None) -> tuple[str, ModelConfig]:
    if model is None:
        return "Magistral Small 2506, 4-bit weights", magistral_small()
    choice = choose_model(model, state=state_folder())
    folder = default_output(DEMO, bits=4) if choice == DEMO else Path(choice)
    return folder.name, open_checkpoint(folder).config


def plan_view(plan: MemoryPlan, *, title: str) -> RenderableType:
    """The use of memory, the choices for the KV cache, and the reasons for the plan."""
    return Group(_bytes_table(plan, title), Text(), _kv_table(plan), Text(), *_notes(plan))


def stages_view(plans: Sequence[MemoryPlan], *, title: str) -> RenderableType:
    """One row for each rank of a model whose layers are divided, and the reasons for the plan."""
    table = _table(title, "Rank", "Limit", "Layers", "Weights", "KV cache", "Largest step", "Left")
    for rank, each in enumerate(plans):
        counts = each.weights, each.kv, each.step, each.prefix_cache + each.headroom
        sizes = map(gigabytes, counts)
        table.add_row(str(rank), gigabytes(each.limit), str(each.layers[rank]), *sizes)
    return Group(table, Text(), *_notes(plans[0]))


def macs_view(plans: Mapping[int, MemoryPlan | None], *, title: str) -> RenderableType:
    """One row for each Mac, by bytes of memory; None: the model does not fit."""
    table = _table(title, "Mac", "Limit", "Window", "KV cache", "Largest step", "Left")
    for memory, each in plans.items():
        table.add_row(f"{memory // GIB} GB", *mac_row(memory, each))
    return table


def mac_row(memory: int, plan: MemoryPlan | None) -> list[str]:
    """The columns of `macs_view` for a Mac with this many bytes of memory."""
    limit = gigabytes(mac_limit(memory).bytes)
    if plan is None:
        return [limit, "does not fit", "", "", ""]
    kv = f"{gigabytes(plan.kv)}, {plan.kv_bits} bits"
    left = plan.prefix_cache + plan.headroom
    return [limit, f"{plan.window:,}", kv, gigabytes(plan.step), gigabytes(left)]


def _notes(plan: MemoryPlan) -> list[Text]:
    return [Text(f"{reason[0].upper()}{reason[1:]}.", style="dim") for reason in plan.reasons]


def _bytes_table(plan: MemoryPlan, title: str) -> Table:
    sequences = f"{plan.sequences} × " if plan.sequences > 1 else ""
    memory = f"Memory of each of {plan.ranks} ranks" if plan.ranks > 1 else "Memory"
    table = _table(title, memory, "Bytes", "Share")
    rows = [
        ("Weights", plan.weights),
        (f"KV cache, {sequences}{plan.window:,} tokens at {plan.kv_bits} bits", plan.kv),
        ("Largest step (activations)", plan.step),
        ("Left: half for reusing prompts", plan.prefix_cache),
        ("Left: headroom", plan.headroom),
    ]
    for name, count in rows:
        table.add_row(name, gigabytes(count), f"{count / plan.limit:.0%}")
    table.add_row(f"Limit: {plan.limit_source}", gigabytes(plan.limit), "", style="bold")
    return table


def _kv_table(plan: MemoryPlan) -> Table:
    table = _table(None, "KV cache", "A token", f"{plan.window:,} tokens", "Longest window")
    table.add_column("")
    for choice in plan.kv_choices:
        planned = choice.bits == plan.kv_bits
        table.add_row(
            f"{choice.bits} bits",
            f"{choice.bytes_per_token:,} B",
            gigabytes(choice.bytes_at_window),
            f"{choice.longest_window:,}",
            "planned" if planned else "possible",
            style="bold" if planned else "dim",
        )
    return table


def _table(title: str | None, first: str, *columns: str) -> Table:
    """A table with its first column set to the left, the others to the right."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1))
    table.add_column(first)
    for name in columns:
        table.add_column(name, justify="right")
    return table
