"""The folders that both engines open: the nano, and a wider model with random weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.quantization import Quantization
from magistral_mlx.convert import convert
from magistral_mlx.demo.random_model import write_random_model
from magistral_mlx.device import on_cpu


@dataclass(frozen=True)
class Models:
    """Both engines compute in `dtype`, for the folders store it.

    On MLX's CPU backend that is float32: ours computes in it there anyway, because 4-bit products
    are several times faster, and mlx-lm would be slow for no reason of its own in bfloat16.
    """

    scratch: Path
    dtype: str

    @cached_property
    def nano(self) -> Path:
        """The demo at 4 bits: mostly head and host."""
        return convert("demo", self.scratch / "nano", dtype=self.dtype)

    @cached_property
    def wide(self) -> Path:
        """183M parameters in layers, a small vocabulary, 4 bits: mostly matrix products."""
        return write_random_model(self.scratch / "wide", _wide(self.dtype))


@contextmanager
def temporary_models() -> Iterator[Models]:
    """Models that are made when they are first asked for, and removed at the end."""
    with TemporaryDirectory(prefix="side-by-side-") as scratch:
        yield Models(Path(scratch), "float32" if on_cpu() else "bfloat16")


def _wide(dtype: str) -> ModelConfig:
    return ModelConfig(
        vocab_size=4_096,
        hidden_size=1_024,
        intermediate_size=4_096,
        num_hidden_layers=12,
        num_attention_heads=16,
        num_key_value_heads=4,
        head_dim=64,
        rms_norm_eps=1e-5,
        rope_theta=1e9,
        max_position_embeddings=40_960,
        tie_word_embeddings=False,
        dtype=dtype,
        quantization=Quantization(bits=4, group_size=64),
    )
