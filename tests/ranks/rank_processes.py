"""Starts the ranks of one model as processes of this machine, as mlx.launch does over its ring."""

import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE = 90.0
"""Seconds for what takes a few on an idle machine."""


def free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody listens on."""
    while True:
        first = random.randrange(20_000, 30_000)
        try:
            for port in range(first, first + count):
                socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return first


def rank_environment(folder: Path, rank: int, size: int, *, port: int) -> dict[str, str]:
    """What mlx.launch --backend ring puts into the environment of a rank."""
    hostfile = folder / f"hosts-{port}.json"
    hostfile.write_text(json.dumps([[f"127.0.0.1:{port + n}"] for n in range(size)]))
    return {**os.environ, "MLX_RANK": str(rank), "MLX_HOSTFILE": str(hostfile)}


def start(
    command: Sequence[str], environment: Mapping[str, str], *, log: Path | None = None
) -> "subprocess.Popen[str]":
    """A process whose standard output is read, and whose standard error goes to `log`."""
    errors = log.open("w") if log else subprocess.PIPE
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
    )


@contextmanager
def ranks(
    commands: Sequence[Sequence[str]], folder: Path
) -> Iterator[list["subprocess.Popen[str]"]]:
    """One process for each command; whatever still runs at the end is killed."""
    port = free_ports(len(commands) + 1)
    processes = [
        start(command, rank_environment(folder, rank, len(commands), port=port))
        for rank, command in enumerate(commands)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def mlx_launch(*command: str) -> "subprocess.CompletedProcess[str]":
    """What `mlx.launch -n 2 --backend ring -- magistral-mlx …` prints, once all have ended."""
    bin_folder = Path(sys.executable).parent
    launch = [str(bin_folder / "mlx.launch"), "-n", "2", "--backend", "ring"]
    ports = ["--starting-port", str(free_ports(3))]
    stdin, kept_open = os.pipe()  # mlx.launch takes turns with nobody when its input has ended
    try:
        return subprocess.run(
            [*launch, *ports, "--", "magistral-mlx", *command],
            cwd=ROOT,
            env={
                **os.environ,
                "PATH": f"{bin_folder}:{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT),
            },
            stdin=stdin,
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE,
        )
    finally:
        os.close(kept_open)
        os.close(stdin)


def python(module: str, *arguments: str) -> list[str]:
    """A command that runs the main function of a module of the tests."""
    code = f"from {module} import main; main()"
    return [sys.executable, "-c", code, *arguments]


def outputs(processes: Sequence["subprocess.Popen[str]"]) -> list[str]:
    """What each process has written, once all have ended well."""
    ended = [process.communicate(timeout=PATIENCE) for process in processes]
    for process, (_, errors) in zip(processes, ended, strict=True):
        assert process.returncode == 0, errors
    return [output for output, _ in ended]
