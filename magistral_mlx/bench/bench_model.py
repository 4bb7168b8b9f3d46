"""The model that is measured, opened as its users open it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from magistral_mlx.api import open_model
from magistral_mlx.bench.synthetic import SyntheticTeam, synthetic_checkpoint, synthetic_config
from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.folder import Checkpoint
from magistral_mlx.device import DeviceOptions, compute_dtype, dtype_name
from magistral_mlx.engine.engine import Engine
from magistral_mlx.engine.kv_budget import KVBudget, kv_budget
from magistral_mlx.folders import cache_folder
from magistral_mlx.kv.cache import kv_precision
from magistral_mlx.machine import MemoryLimit
from magistral_mlx.memory.plan import PREFILL_TOKENS, MemoryPlan, plan
from magistral_mlx.memory.this_machine import plan_for_this_machine
from magistral_mlx.ranks.layer_split import Split
from magistral_mlx.ranks.shard_config import shard_config
from magistral_mlx.ranks.stage import stages
from magistral_mlx.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class BenchModel:
    """folder: where others find it; None for made-up weights, which only we have."""

    name: str
    checkpoint: Checkpoint
    tokenizer: Tokenizer
    engine: Engine
    plan: MemoryPlan
    folder: Path | None

    @property
    def config(self) -> ModelConfig:
        """Its shape."""
        return self.checkpoint.config

    @property
    def dtype(self) -> str:
        """What it computes in."""
        return dtype_name(compute_dtype(self.config.dtype))

    @property
    def read(self) -> ModelConfig:
        """The shape of what a step reads, one after the other.

        Rank 0's part of the heads; all of it where layers are divided, for one rank waits for the
        other.
        """
        return self.config if self.plan.layers else shard_config(self.config, self.plan.ranks)

    @property
    def kv(self) -> KVBudget:
        """What KV takes on rank 0, and how much of it there may be."""
        layers = self.plan.layers
        part = stages(layers)[0].part_of(self.config) if layers else self.read
        return kv_budget(part, self.dtype, limit=self.plan.kv + self.plan.prefix_cache)


@contextmanager
def converted_model(choice: str, *, split: Split = "heads") -> Iterator[BenchModel]:
    """What `choose_model` chose. Raises as `open_model` does."""
    with open_model(choice, split=split) as model:
        yield BenchModel(
            name=model.name,
            checkpoint=model.checkpoint,
            tokenizer=model.tokenizer,
            engine=model.engine,
            plan=model.plan,
            folder=model.checkpoint.folder,
        )


@contextmanager
def synthetic_model(name: str, *, limit: MemoryLimit | None = None) -> Iterator[BenchModel]:
    """Made-up weights of a known shape, within `limit` or what this machine has.

    Raises RequestError for an unknown name, and MemoryPlanError, with the numbers and what would
    fit, before anything is made.
    """
    config = synthetic_config(name)
    made = plan(config, limit) if limit is not None else plan_for_this_machine(config)
    with synthetic_checkpoint(config) as checkpoint:
        tokenizer = Tokenizer.open(checkpoint.tokenizer_file)
        engine = Engine(
            checkpoint,
            tokenizer,
            window=made.window,
            device=DeviceOptions(spare_bytes=max(made.step // 2, min(made.step, made.headroom))),
            prefill_tokens=PREFILL_TOKENS,
            kv_bytes=made.kv + made.prefix_cache,
            kv_precision=kv_precision(made.kv_bits),
            prefix_bytes=made.kv + made.prefix_cache,
            costs_folder=cache_folder(),
            team=SyntheticTeam(),
        )
        try:
            yield BenchModel(f"synthetic {name}", checkpoint, tokenizer, engine, made, None)
        finally:
            engine.close()
