"""Rank 0's team where layers are divided."""

from collections.abc import Sequence

import mlx.core as mx

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.folder import Checkpoint
from magistral_mlx.machine import MemoryLimit
from magistral_mlx.model.decoder import Decoder
from magistral_mlx.ranks.leading_team import LeadingTeam, limits_by_rank
from magistral_mlx.ranks.division import Stage, stages
from magistral_mlx.ranks.parts import LeadingStage, load_stage


class StagedTeam(LeadingTeam):
    """As LeadingTeam, but each rank has some of the layers: `divide` says how many."""

    @property
    def limits(self) -> tuple[MemoryLimit, ...]:
        """The machines' own; ranks on one machine share it."""
        return limits_by_rank(self._roll.present)

    def divide(self, layers: Sequence[int]) -> None:
        """Say how many layers each rank is to have, before anything is loaded."""
        self._layers = tuple(layers)

    def part_of(self, config: ModelConfig) -> ModelConfig:
        """Rank 0's layers."""
        return self._stage.part_of(config)

    @property
    def _stage(self) -> Stage:
        return stages(self._layers)[0]

    def _own_part(self, checkpoint: Checkpoint, dtype: mx.Dtype) -> Decoder:
        decoder = LeadingStage(checkpoint.config, self._log, self._group)
        load_stage(decoder, checkpoint, self._stage, dtype=dtype)
        return decoder
