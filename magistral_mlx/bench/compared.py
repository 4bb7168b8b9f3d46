"""The contenders of `--compare`; llama.cpp's is here: llama-bench with a GGUF file of the model."""

import json
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from magistral_mlx.bench.bench_model import BenchModel
from magistral_mlx.bench.cases import Case, Contender, Rates
from magistral_mlx.errors import RequestError, UserError
from magistral_mlx.memory.plan import gigabytes

MLX_LM, LLAMA_CPP = "mlx-lm", "llama.cpp"
CACHE_TYPES = {8: "q8_0", 4: "q4_0"}


@dataclass(frozen=True, slots=True)
class Compared:
    """The values of --compare. Raises RequestError for an unknown or incomplete one.

    binary, gguf: llama-bench and its model. api_key: for a server.
    """

    names: Sequence[str]
    binary: Path | None = None
    gguf: Path | None = None
    api_key: str | None = None

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in (MLX_LM, LLAMA_CPP) and not name.startswith(("http://", "https://")):
                raise RequestError(
                    f"--compare {name!r} is unknown: give mlx-lm, llama.cpp with the path of "
                    "llama-bench, or the URL of a server such as http://127.0.0.1:8000/v1."
                )
        if LLAMA_CPP in self.names and (self.binary is None or self.gguf is None):
            raise RequestError(
                "--compare llama.cpp needs the path of llama-bench after it, and a GGUF file of "
                "the model with --gguf."
            )
        if len(set(self.names)) < len(self.names):
            raise RequestError("--compare has the same value twice: give it once.")

    @property
    def modules(self) -> list[str]:
        """Libraries that the contenders need."""
        needed = {"mlx_lm": MLX_LM in self.names, "openai": any("://" in n for n in self.names)}
        return [module for module, wanted in needed.items() if wanted]

    def open(self, model: BenchModel, cases: Sequence[Case]) -> list[Contender]:
        """All of them, ready to run. Raises UserError if one cannot run here."""
        return [self._open(name, model, cases) for name in self.names]

    def _open(self, name: str, model: BenchModel, cases: Sequence[Case]) -> Contender:
        if name == MLX_LM:
            return _mlx_lm(model, cases)
        if name == LLAMA_CPP:
            assert self.binary is not None
            assert self.gguf is not None
            return LlamaBench(self.binary, self.gguf)
        from magistral_mlx.bench.openai_server import OpenAIContender

        return OpenAIContender(name, model.tokenizer, api_key=self.api_key)


def _mlx_lm(model: BenchModel, cases: Sequence[Case]) -> Contender:
    """Both models are in memory together, so everything is there twice."""
    if model.folder is None:
        raise RequestError("mlx-lm needs the model's folder: leave --synthetic or --compare out.")
    caches = [[(case.prompt + case.tokens, case.precision)] * case.streams for case in cases]
    kv = max(map(model.kv.sum, caches), default=0)
    needed = 2 * (model.plan.weights + model.plan.step + kv)
    if needed > model.plan.limit:
        raise RequestError(
            f"Beside mlx-lm, weights, KV and step are in memory twice: {gigabytes(needed)}, and "
            f"the limit is {gigabytes(model.plan.limit)}, {model.plan.limit_source}. Choose "
            "shorter --prompts or fewer --streams, or leave --compare mlx-lm out."
        )
    from magistral_mlx.bench.mlx_lm_contender import MlxLmContender

    return MlxLmContender(model.folder, dtype=model.dtype)


class LlamaBench:
    """One process for the prompt and one for decoding: llama-bench has one depth per run."""

    name = LLAMA_CPP

    def __init__(self, binary: Path, gguf: Path) -> None:
        """Raises UserError when either file is missing."""
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
        """Without sampling; it makes its own prompts, so the seed is ignored."""
        del seed
        bits = case.precision.bits
        kind = CACHE_TYPES.get(bits) if bits is not None else None
        cache = ["-ctk", kind, "-ctv", kind, "-fa", "1"] if kind else []
        prefill = self._rate(["-p", str(case.prompt), "-n", "0", *cache])
        decode = self._rate(["-p", "0", "-n", str(case.tokens), "-d", str(case.prompt), *cache])
        return Rates(prefill=prefill, decode=decode, first_token=case.prompt / prefill)

    def _rate(self, arguments: Sequence[str]) -> float:
        """Tokens per second of one test."""
        done = subprocess.run(
            [*self._command, *arguments], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no error message"])[-1]
            raise UserError(f"llama-bench ended with {done.returncode}: {last}")
        try:
            (test,) = json.loads(done.stdout)
            return statistics.median(map(float, test["samples_ts"]))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"llama-bench did not print one test as JSON ({error!r}): use a llama-bench that "
                "knows -o json and -d."
            ) from error
