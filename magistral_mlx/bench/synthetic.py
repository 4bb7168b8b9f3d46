"""Weights of a model's shape, made up on the device: speed can be measured without the model."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.folder import Checkpoint
from magistral_mlx.checkpoint.quantization import Quantization
from magistral_mlx.demo.random_model import random_tensors
from magistral_mlx.demo.tekken import write_tekken
from magistral_mlx.device import DeviceOptions, compute_dtype, dtype_name
from magistral_mlx.errors import RequestError
from magistral_mlx.memory.plan import magistral_small
from magistral_mlx.model.decoder import Decoder
from magistral_mlx.ranks.team import Team


def synthetic_config(name: str) -> ModelConfig:
    """Of 24b, Magistral Small at 4 bits, or of small, 8M parameters to try the command with.

    Scales have the type that this machine computes in. Raises RequestError for another name.
    """
    if name not in ("24b", "small"):
        raise RequestError(f"--synthetic {name!r} is unknown: choose 24b or small.")
    config = magistral_small() if name == "24b" else _small()
    dtype = dtype_name(compute_dtype(config.dtype))
    return replace(config, dtype=dtype)


@contextmanager
def synthetic_checkpoint(config: ModelConfig) -> Iterator[Checkpoint]:
    """A checkpoint of that shape that has a tokenizer and no weight files."""
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
    """This process alone, and weights that are made instead of read, tensor by tensor."""

    def load(self, checkpoint: Checkpoint, device: DeviceOptions) -> Decoder:
        """Random weights, the same every time."""
        config = checkpoint.config
        decoder = Decoder(config)
        decoder.load(dict(random_tensors(config)), device.compute_dtype(config.dtype))
        return decoder


def _small() -> ModelConfig:
    return ModelConfig(
        vocab_size=8_192,
        hidden_size=256,
        intermediate_size=1_024,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        rms_norm_eps=1e-5,
        rope_theta=1e9,
        max_position_embeddings=40_960,
        tie_word_embeddings=False,
        dtype="bfloat16",
        quantization=Quantization(bits=4, group_size=64),
    )
