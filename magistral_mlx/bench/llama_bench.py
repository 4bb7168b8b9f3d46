"""`--compare llama.cpp PATH`: llama.cpp's own llama-bench, with a GGUF file of the same model."""

import json
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path

from magistral_mlx.bench.cases import Case
from magistral_mlx.bench.contender import Rates
from magistral_mlx.errors import UserError

CACHE_TYPES = {8: "q8_0", 4: "q4_0"}


class LlamaBench:
    """A process for the prompt and one for the tokens behind it: it knows one depth a run."""

    name = "llama.cpp"

    def __init__(self, binary: Path, gguf: Path) -> None:
        """Raises UserError when there is no such program or file."""
        if not binary.is_file():
            raise UserError(f"{binary} is not a program: give the path of llama-bench.")
        if not gguf.is_file():
            raise UserError(f"{gguf} is not a file: give a GGUF file of the model with --gguf.")
        self._command = [str(binary.resolve()), "-m", str(gguf), "-o", "json", "-r", "1"]

    def refuses(self, case: Case) -> str | None:
        """It runs one stream."""
        return "llama-bench runs one stream" if case.streams > 1 else None

    def warm_up(self, case: Case) -> None:
        """It warms up by itself, in every process."""

    def run(self, case: Case, *, seed: int) -> Rates:
        """Sampling is not in its figures; its prompts are its own, so the seed is of no use."""
        del seed
        bits = case.precision.bits
        kind = CACHE_TYPES.get(bits) if bits is not None else None
        cache = ["-ctk", kind, "-ctv", kind, "-fa", "1"] if kind else []
        prefill = self._rate(["-p", str(case.prompt), "-n", "0", *cache])
        decode = self._rate(["-p", "0", "-n", str(case.tokens), "-d", str(case.prompt), *cache])
        return Rates(prefill=prefill, decode=decode, first_token=case.prompt / prefill)

    def _rate(self, arguments: Sequence[str]) -> float:
        done = subprocess.run(
            [*self._command, *arguments], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["without a word"])[-1]
            raise UserError(f"llama-bench ended with {done.returncode}: {last}")
        return read_rate(done.stdout)


def read_rate(output: str) -> float:
    """Tokens a second of the one test in what `llama-bench -o json` prints."""
    try:
        (test,) = json.loads(output)
        return statistics.median(map(float, test["samples_ts"]))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"llama-bench printed something else than one test as JSON ({error!r}): use a "
            "llama-bench that knows -o json and -d."
        ) from error
