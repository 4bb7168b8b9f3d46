"""The ranks that run one model, as the engine sees them: usually this process alone."""

from collections.abc import Callable, Sequence

import mlx.core as mx

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.folder import Checkpoint
from magistral_mlx.device import DeviceOptions
from magistral_mlx.machine import MemoryLimit, machine_limit
from magistral_mlx.model.decoder import Decoder, load_decoder


class Team:
    """One process with the whole model. LeadingTeam is rank 0 of several."""

    size = 1

    @property
    def limit(self) -> MemoryLimit:
        """The memory limit of each rank."""
        return machine_limit()

    @property
    def limits(self) -> tuple[MemoryLimit, ...]:
        """Every rank's limit if layers are divided; otherwise empty."""
        return ()

    def divide(self, layers: Sequence[int]) -> None:
        """Set the number of layers of each rank; none: all have a part of every layer."""
        if layers:
            raise ValueError("A team that divides heads was told to divide layers.")

    def part_of(self, config: ModelConfig) -> ModelConfig:
        """The shape of one rank's part."""
        return config

    @property
    def can_recover(self) -> bool:
        """Whether the engine can continue after a failed step."""
        return True

    def load(self, checkpoint: Checkpoint, device: DeviceOptions) -> Decoder:
        """The decoder, with its weights. Raises CheckpointError."""
        return load_decoder(checkpoint, dtype=device.dtype)

    def rest(self) -> None:
        """Free the memory that MLX keeps: the engine is idle."""
        mx.clear_cache()

    def on_lost(self, listener: Callable[[str], None]) -> None:
        """Call a function, on another thread, when a rank is lost; one process has none to lose."""

    def refuse(self, reason: str) -> None:
        """End the other ranks, because the model cannot be opened."""

    def close(self, *, failed: bool = False) -> None:
        """End the other ranks, because the engine has ended or failed."""
