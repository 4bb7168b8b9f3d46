"""The models that are measured: converted, made up in memory, or written with random weights."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from magistral_mlx.api import open_model
from magistral_mlx.bench.cases import SMALL_VOCABULARY
from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.folder import Checkpoint, open_checkpoint
from magistral_mlx.checkpoint.quantization import Quantization
from magistral_mlx.convert import ConversionOptions, convert
from magistral_mlx.demo.random_model import random_tensors, write_random_model
from magistral_mlx.demo.tekken import write_tekken
from magistral_mlx.device import DeviceOptions, compute_dtype, dtype_name, on_cpu
from magistral_mlx.engine.engine import Engine
from magistral_mlx.engine.kv_budget import KVBudget, kv_budget
from magistral_mlx.errors import RequestError
from magistral_mlx.folders import cache_folder
from magistral_mlx.kv.cache import kv_precision
from magistral_mlx.machine import MemoryLimit, machine_limit
from magistral_mlx.memory.needs import PREFILL_TOKENS, Workload
from magistral_mlx.memory.plan import MemoryPlan, magistral_small, plan
from magistral_mlx.model.decoder import Decoder
from magistral_mlx.ranks.division import Split, shard_config, stages
from magistral_mlx.ranks.team import Team
from magistral_mlx.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class BenchModel:
    """folder: where contenders find it; None for made-up weights, which only we have."""

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
        """The type that it computes in."""
        return dtype_name(compute_dtype(self.config.dtype))

    @property
    def read(self) -> ModelConfig:
        """The shape of what a step reads in sequence.

        Rank 0's part of the heads; the whole model if layers are divided, because then one rank
        waits for the other.
        """
        return self.config if self.plan.layers else shard_config(self.config, self.plan.ranks)

    @property
    def kv(self) -> KVBudget:
        """The KV budget of rank 0."""
        layers = self.plan.layers
        part = stages(layers)[0].part_of(self.config) if layers else self.read
        return kv_budget(part, self.dtype, limit=self.plan.kv + self.plan.prefix_cache)


@contextmanager
def converted_model(choice: str, *, split: Split = "heads") -> Iterator[BenchModel]:
    """Open what `choose_model` chose. Raises what `open_model` raises."""
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
    """A known shape with made-up weights, within `limit` or this machine's memory.

    name: 24b, Magistral Small at 4 bits; or small, 8M parameters.

    Raises RequestError for another name, and MemoryPlanError, with the numbers and what would fit,
    before any weight is made.
    """
    if name not in ("24b", "small"):
        raise RequestError(f"--synthetic {name!r} is unknown: choose 24b or small.")
    small = random_shape(4, width=256, heads=(4, 2), vocabulary=8_192, dtype="bfloat16")
    config = magistral_small() if name == "24b" else small
    config = replace(config, dtype=dtype_name(compute_dtype(config.dtype)))
    workload = Workload() if limit else Workload().on_this_machine(config)
    made = plan(config, limit or machine_limit(), workload)
    with _synthetic_checkpoint(config) as checkpoint:
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
        with closing(engine):
            yield BenchModel(f"synthetic {name}", checkpoint, tokenizer, engine, made, None)


@contextmanager
def _synthetic_checkpoint(config: ModelConfig) -> Iterator[Checkpoint]:
    """A checkpoint with a tokenizer and without weight files."""
    with TemporaryDirectory(prefix="magistral-mlx-bench-") as folder:
        tokenizer = Path(folder) / "tekken.json"
        write_tekken(tokenizer, vocab_size=config.vocab_size)
        yield Checkpoint(
            folder=Path(folder),
            config=config,
            weight_files=(),
            tokenizer_file=tokenizer,
            fingerprint=sha256(f"synthetic {config}".encode()).hexdigest(),
        )


class SyntheticTeam(Team):
    """A team of this process alone, which makes weights instead of reading them."""

    def load(self, checkpoint: Checkpoint, device: DeviceOptions) -> Decoder:
        """Random weights, the same every time, made tensor by tensor."""
        config = checkpoint.config
        decoder = Decoder(config)
        decoder.load(dict(random_tensors(config)), device.compute_dtype(config.dtype))
        return decoder


@contextmanager
def unlimited_engine(folder: Path) -> Iterator[Engine]:
    """The engine as `open_model` starts it, but with the whole window and no memory limit."""
    checkpoint = open_checkpoint(folder)
    engine = Engine(
        checkpoint,
        Tokenizer.open(checkpoint.tokenizer_file),
        window=checkpoint.config.max_position_embeddings,
        costs_folder=folder.parent,
    )
    with closing(engine):
        yield engine


@dataclass(frozen=True)
class SideBySide:
    """Folders that both our engine and mlx-lm open, made when they are first needed.

    quick: measure less, and the demo model alone. done: called after every run.

    The folders store the type that our engine computes in, which is float32 on MLX's CPU backend,
    so that mlx-lm is not slowed down by bfloat16 there.
    """

    scratch: Path
    dtype: str
    quick: bool = False
    done: Callable[[], None] = lambda: None

    @cached_property
    def demo(self) -> Path:
        """The demo model at 4 bits: mostly head and host time."""
        return convert("demo", self.scratch / "demo", ConversionOptions(dtype=self.dtype))

    @cached_property
    def wide(self) -> Path:
        """183M parameters in layers, a small vocabulary, 4 bits: mostly matrix products."""
        shape = random_shape(12, width=1_024, heads=(16, 4), dtype=self.dtype)
        return write_random_model(self.scratch / "wide", shape)


@contextmanager
def side_by_side(
    *, quick: bool = False, done: Callable[[], None] = lambda: None
) -> Iterator[SideBySide]:
    """Folders that are removed at the end."""
    with TemporaryDirectory(prefix="side-by-side-") as scratch:
        dtype = "float32" if on_cpu() else "bfloat16"
        yield SideBySide(Path(scratch), dtype, quick, done)


def random_shape(
    layers: int,
    *,
    width: int,
    heads: tuple[int, int],
    inner: int | None = None,
    vocabulary: int = SMALL_VOCABULARY,
    dtype: str = "float32",
    window: int = 40_960,
) -> ModelConfig:
    """A shape at 4 bits; heads: of queries and of KV, 64 wide; inner: of the MLP, or 4 x width."""
    queries, kv = heads
    return ModelConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=inner or 4 * width,
        num_hidden_layers=layers,
        num_attention_heads=queries,
        num_key_value_heads=kv,
        head_dim=64,
        rms_norm_eps=1e-5,
        rope_theta=1e9,
        max_position_embeddings=window,
        tie_word_embeddings=False,
        dtype=dtype,
        quantization=Quantization(bits=4, group_size=64),
    )


def narrow_shape(layers: int) -> ModelConfig:
    """So narrow that only the number of layers costs time; computes in float32."""
    return random_shape(layers, width=64, inner=64, heads=(1, 1), window=4_096)
