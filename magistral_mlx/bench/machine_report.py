"""What a figure of speed was measured on."""

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import mlx.core as mx

from magistral_mlx.device import has_metal, on_cpu
from magistral_mlx.spec import VERSION

POWER_MODES = {"0": "automatic", "1": "low power", "2": "high power"}
"""What macOS calls the values of powermode; lowpowermode, of older Macs, knows the first two."""


@dataclass(frozen=True, slots=True)
class Machine:
    """power_mode: of macOS, None elsewhere. load: of the last minute, as uptime has it."""

    chip: str
    memory_bytes: int
    cores: int
    system: str
    device: str
    power_mode: str | None
    load: float


def this_machine() -> Machine:
    """As it is now."""
    return Machine(
        chip=_chip(),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        cores=os.cpu_count() or 1,
        system=_system(),
        device="CPU" if on_cpu() else "GPU",
        power_mode=power_mode(),
        load=round(os.getloadavg()[0], 2),
    )


def versions() -> dict[str, str | None]:
    """Of what the figures hang on; None for what is not installed."""
    found: dict[str, str | None] = {"magistral-mlx": VERSION, "python": platform.python_version()}
    for name in ("mlx", "mlx-lm"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def power_mode() -> str | None:
    """Of macOS: low power makes a Mac up to four times slower."""
    if platform.system() != "Darwin":
        return None
    done = subprocess.run(["pmset", "-g"], capture_output=True, text=True, check=False)
    return read_power_mode(done.stdout)


def read_power_mode(pmset: str) -> str | None:
    """The mode that `pmset -g` tells of, where it tells of any."""
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


def _system() -> str:
    mac = platform.mac_ver()[0]
    return f"macOS {mac}" if mac else f"{platform.system()} {platform.release()}"
