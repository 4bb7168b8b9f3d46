"""How each block of rows of a conversion is rounded: alone, by importance, or calibrated."""

import mlx.core as mx

from magistral_mlx.checkpoint.quantization import Quantization
from magistral_mlx.convert.rounding.calibration import Calibrator
from magistral_mlx.convert.rounding.feedback import Feedback
from magistral_mlx.convert.rounding.importance import Importance
from magistral_mlx.convert.rounding.rounder import stored_rows
from magistral_mlx.convert.rounding.settings import Settings
from magistral_mlx.convert.sources.read_ahead import Block
from magistral_mlx.convert.sources.source import Rows


class Rounding:
    """Rounds blocks in the order of the forward pass."""

    def __init__(
        self,
        settings: Settings,
        *,
        importance: Importance | None = None,
        calibrator: Calibrator | None = None,
    ) -> None:
        self._settings = settings
        self._importances = importance or {}
        self._calibrator = calibrator

    def stored(
        self, block: Block, rows: Rows, quantization: Quantization | None
    ) -> tuple[mx.array, tuple[mx.array, ...]]:
        """The rows, and what is stored for them: see quantise.stored_rows."""
        module = block.tensor.name.removesuffix(".weight")
        return stored_rows(
            block,
            rows,
            quantization=quantization,
            dtype=self._settings.dtype,
            method=self._settings.method,
            importance=self._importance(module),
            feedback=self._feedback(module, quantization),
        )

    def _importance(self, module: str) -> mx.array | None:
        found = self._importances.get(module)
        return None if found is None else mx.array(found)

    def _feedback(self, module: str, quantization: Quantization | None) -> Feedback | None:
        if self._calibrator is None or quantization is None or not quantization.has_biases:
            return None
        return self._calibrator.feedback(module)
