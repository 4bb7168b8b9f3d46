"""The memory plan as a table."""

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from magistral_mlx.machine import GIB, mac_limit
from magistral_mlx.memory.plan import MemoryPlan, gigabytes


def plan_view(plan: MemoryPlan, *, title: str) -> RenderableType:
    """Where the bytes go, the choices for the KV cache, and why the plan is as it is."""
    return Group(_bytes_table(plan, title), Text(), _kv_table(plan), Text(), *_notes(plan))


def stages_view(plans: Sequence[MemoryPlan], *, title: str) -> RenderableType:
    """One row a rank of a model that is divided by layers, and why the plan is as it is."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1))
    for name in ("Rank", "Limit", "Layers", "Weights", "KV cache", "Largest step", "Left"):
        table.add_column(name, justify="right")
    for rank, plan in enumerate(plans):
        counts = plan.weights, plan.kv, plan.step, plan.prefix_cache + plan.headroom
        sizes = map(gigabytes, counts)
        table.add_row(str(rank), gigabytes(plan.limit), str(plan.layers[rank]), *sizes)
    return Group(table, Text(), *_notes(plans[0]))


def macs_view(plans: Mapping[int, MemoryPlan | None], *, title: str) -> RenderableType:
    """One row a Mac, by its bytes of memory; None where the model does not fit."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1))
    table.add_column("Mac")
    for name in ("Limit", "Window", "KV cache", "Largest step", "Left"):
        table.add_column(name, justify="right")
    for memory, plan in plans.items():
        table.add_row(f"{memory // GIB} GB", *mac_row(memory, plan))
    return table


def mac_row(memory: int, plan: MemoryPlan | None) -> list[str]:
    """What a Mac with so many bytes of memory holds, in the columns of `macs_view`."""
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
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1))
    table.add_column(f"Memory of each of {plan.ranks} ranks" if plan.ranks > 1 else "Memory")
    table.add_column("Bytes", justify="right")
    table.add_column("Share", justify="right")
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
    table = Table(box=None, padding=(0, 1))
    table.add_column("KV cache")
    table.add_column("A token", justify="right")
    table.add_column(f"{plan.window:,} tokens", justify="right")
    table.add_column("Longest window", justify="right")
    table.add_column("")
    for choice in plan.kv_choices:
        style = "bold" if choice.bits == plan.kv_bits else "dim"
        table.add_row(
            f"{choice.bits} bits",
            f"{choice.bytes_per_token:,} B",
            gigabytes(choice.bytes_at_window),
            f"{choice.longest_window:,}",
            "planned" if choice.bits == plan.kv_bits else "possible",
            style=style,
        )
    return table
