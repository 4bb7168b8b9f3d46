"""`--compare mlx-lm`: the same folder, in the same process."""

from pathlib import Path

from magistral_mlx.bench.cases import Case
from magistral_mlx.bench.contender import Rates
from magistral_mlx.bench.mlx_lm import load_mlx_lm, run_batch, run_one
from magistral_mlx.bench.output import decode_rate_if_any
from magistral_mlx.bench.prompts import stream_prompts


class MlxLmContender:
    """Its `generate_step` for one stream, its `BatchGenerator` for several."""

    name = "mlx-lm"

    def __init__(self, folder: Path, *, dtype: str) -> None:
        """Load the folder, to compute in the type that ours computes in."""
        self._mlx_lm = load_mlx_lm(folder, dtype=dtype)

    def refuses(self, case: Case) -> str | None:
        """Its batches do not quantise KV."""
        if case.streams > 1 and case.precision.bits is not None:
            return "it does not quantise the KV of several streams"
        return None

    def warm_up(self, case: Case) -> None:
        """Run a short one."""
        self.run(Case(32, case.streams, case.kv_bits, 16), seed=0)

    def run(self, case: Case, *, seed: int) -> Rates:
        """All streams at once."""
        prompts = stream_prompts(case.prompt, case.streams, seed=seed)
        if case.streams == 1:
            bits = case.precision.bits
            outputs = [run_one(self._mlx_lm, prompts[0], case.tokens, kv_bits=bits)]
        else:
            outputs = run_batch(self._mlx_lm, prompts, case.tokens).outputs
        first = max(output.first - output.submitted for output in outputs)
        return Rates(
            prefill=case.streams * case.prompt / first,
            decode=decode_rate_if_any(outputs),
            first_token=first,
        )
