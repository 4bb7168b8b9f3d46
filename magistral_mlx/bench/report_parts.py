"""What all reports share: a table of figures, machine and versions, a line of JSON."""

import json
import os
import platform
import re
import subprocess
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import mlx.core as mx
from rich.table import Table

from magistral_mlx.device import has_metal, on_cpu
from magistral_mlx.spec import VERSION

POWER_MODES = {"0": "automatic", "1": "low power", "2": "high power"}
"""The values of macOS's powermode; lowpowermode, on older Macs, has the first two."""


def figures_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    left: Collection[str] = (),
    caption: str = "",
) -> Table:
    """Figures are aligned to the right; the columns named by `left` hold text."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None)
    table.padding, table.caption, table.caption_justify = (0, 1, 0, 0), caption or None, "left"
    for name in columns:
        if name in left:
            table.add_column(name, min_width=10, overflow="fold")
        else:
            table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def records_table(
    title: str,
    columns: Mapping[str, str],
    records: Iterable[Mapping[str, object]],
    *,
    left: Collection[str] = (),
) -> Table:
    """A row per record; columns: by name, a format such as "{field:.1f}"."""
    rows = [[style.format(**record) for style in columns.values()] for record in records]
    return figures_table(title, tuple(columns), rows, left=left)


def json_line(benchmark: str, figures: Mapping[str, object]) -> str:
    """The last line that a benchmark script prints: its figures, with date, machine, versions."""
    head = {"benchmark": benchmark, "date": date.today().isoformat()}
    return json.dumps(
        head | {"machine": asdict(this_machine()), "versions": versions()} | dict(figures)
    )


@dataclass(frozen=True, slots=True)
class Machine:
    """power_mode: macOS only, else None. load: average of the last minute."""

    chip: str
    memory_bytes: int
    cores: int
    system: str
    device: str
    power_mode: str | None
    load: float


def this_machine() -> Machine:
    """This machine as it is now."""
    mac = platform.mac_ver()[0]
    return Machine(
        chip=_chip(),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        cores=os.cpu_count() or 1,
        system=f"macOS {mac}" if mac else f"{platform.system()} {platform.release()}",
        device="CPU" if on_cpu() else "GPU",
        power_mode=power_mode(),
        load=round(os.getloadavg()[0], 2),
    )


def versions() -> dict[str, str | None]:
    """Versions that figures depend on; None for a package that is not installed."""
    found: dict[str, str | None] = {"magistral-mlx": VERSION, "python": platform.python_version()}
    for name in ("mlx", "mlx-lm"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def power_mode() -> str | None:
    """The power mode of macOS: low power makes a Mac up to four times slower."""
    if platform.system() != "Darwin":
        return None
    done = subprocess.run(["pmset", "-g"], capture_output=True, text=True, check=False)
    return read_power_mode(done.stdout)


def read_power_mode(pmset: str) -> str | None:
    """The mode in the output of `pmset -g`; None if it has none."""
    found = re.search(r"^\s*(?:low)?powermode\s+(\d)", pmset, re.MULTILINE)
    return POWER_MODES.get(found[1]) if found else None


def _chip() -> str:
    if has_metal():
        return str(mx.device_info().get("device_name", platform.machine()))
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return name[1].strip() if name else platform.machine()
