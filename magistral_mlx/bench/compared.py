"""What `--compare` names, and how it is opened."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from magistral_mlx.bench.bench_model import BenchModel
from magistral_mlx.bench.cases import Case
from magistral_mlx.bench.contender import Contender
from magistral_mlx.errors import RequestError, UserError
from magistral_mlx.memory.plan import gigabytes

MLX_LM, LLAMA_CPP = "mlx-lm", "llama.cpp"


@dataclass(frozen=True, slots=True)
class Compared:
    """names: of --compare. binary, gguf: llama-bench and its file. api_key: of a server."""

    names: Sequence[str]
    binary: Path | None = None
    gguf: Path | None = None
    api_key: str | None = None

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in (MLX_LM, LLAMA_CPP) and not name.startswith(("http://", "https://")):
                raise RequestError(
                    f"--compare {name!r} is unknown: give mlx-lm, llama.cpp with the path of "
                    "llama-bench, or the URL of a server, as http://127.0.0.1:8000/v1."
                )
        if LLAMA_CPP in self.names and (self.binary is None or self.gguf is None):
            raise RequestError(
                "--compare llama.cpp needs the path of llama-bench after it, and a GGUF file of "
                "the model with --gguf."
            )
        if len(self.names) > 1 and len(set(self.names)) < len(self.names):
            raise RequestError("--compare names the same twice: once is enough.")

    def check_extra(self) -> None:
        """Raises UserError, before anything is measured, when a library is missing."""
        needed = {"mlx_lm": MLX_LM in self.names, "openai": any("://" in n for n in self.names)}
        check_installed([module for module, wanted in needed.items() if wanted])

    def open(self, model: BenchModel, cases: Sequence[Case]) -> list[Contender]:
        """All of them, ready. Raises UserError for what cannot run here."""
        return [self._open(name, model, cases) for name in self.names]

    def _open(self, name: str, model: BenchModel, cases: Sequence[Case]) -> Contender:
        if name == MLX_LM:
            return _mlx_lm(model, cases)
        if name == LLAMA_CPP:
            from magistral_mlx.bench.llama_bench import LlamaBench

            assert self.binary is not None
            assert self.gguf is not None
            return LlamaBench(self.binary, self.gguf)
        from magistral_mlx.bench.openai_server import OpenAIContender

        return OpenAIContender(name, model.tokenizer, api_key=self.api_key)


def check_installed(modules: Sequence[str]) -> None:
    """Raises UserError when a module of the [bench] extra is not there."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise UserError(
            f"This needs {', '.join(missing)}: install it with pip install 'magistral-mlx[bench]'."
        )


def _mlx_lm(model: BenchModel, cases: Sequence[Case]) -> Contender:
    """Beside ours in memory, so everything there is twice."""
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
