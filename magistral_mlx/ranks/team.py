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
        """What each rank may plan with."""
        return machine_limit()

    @property
    def limits(self) -> tuple[MemoryLimit, ...]:
        """What each rank may plan with where layers are divided; empty where all have the same."""
        return ()

    def divide(self, layers: Sequence[int]) -> None:
        """Say how many layers each rank is to have; by default all have a part of every layer."""
        if layers:
            raise ValueError("A team that divides heads was told to divide layers.")

    def part_of(self, config: ModelConfig) -> ModelConfig:
        """The shape of what each rank has of the model."""
        return config

    @property
    def can_recover(self) -> bool:
        """Whether the engine goes on after a step that failed."""
        return True

    def load(self, checkpoint: Checkpoint, device: DeviceOptions) -> Decoder:
        """The decoder, with its weights. Raises CheckpointError."""
        return load_decoder(checkpoint, dtype=device.dtype)

    def rest(self) -> None:
        """There is nothing to do: give back what MLX keeps."""
        mx.clear_cache()

    def on_lost(self, listener: Callable[[str], None]) -> None:
        """Have a function told, on another thread, when a rank is lost. Nobody is here."""

    def refuse(self, reason: str) -> None:
        """The model cannot be opened: nobody need wait for it."""

    def close(self, *, failed: bool = False) -> None:
        """The engine has ended, or died."""
