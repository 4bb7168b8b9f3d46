"""How each block of rows of a conversion is rounded: alone, by importance, or calibrated."""

from pathlib import Path

import mlx.core as mx

from magistral_mlx.checkpoint.quantization import Quantization
from magistral_mlx.convert.plan import ConversionPlan
from magistral_mlx.convert.rounding.calibration import Calibrator
from magistral_mlx.convert.rounding.feedback import Feedback
from magistral_mlx.convert.rounding.quantise import stored_rows
from magistral_mlx.convert.sources.read_ahead import Block
from magistral_mlx.convert.sources.source import Rows


class Rounding:
    """Rounds blocks in the order of the forward pass."""

    def __init__(self, plan: ConversionPlan, folder: Path) -> None:
        """folder: of the output, which a calibrated conversion reads back as it grows."""
        self._plan = plan
        self._calibrator = None
        if plan.calibration is not None:
            self._calibrator = Calibrator(plan.config, plan.calibration, plan.places(folder))

    def stored(
        self, block: Block, rows: Rows, quantization: Quantization | None
    ) -> tuple[mx.array, tuple[mx.array, ...]]:
        """The rows, and what is stored for them: see quantise.stored_rows."""
        module = block.tensor.name.removesuffix(".weight")
        return stored_rows(
            block,
            rows,
            quantization=quantization,
            dtype=self._plan.settings.dtype,
            method=self._plan.settings.method,
            importance=self._importance(module),
            feedback=self._feedback(module, quantization),
        )

    def _importance(self, module: str) -> mx.array | None:
        found = (self._plan.importance or {}).get(module)
        return None if found is None else mx.array(found)

    def _feedback(self, module: str, quantization: Quantization | None) -> Feedback | None:
        if self._calibrator is None or quantization is None or not quantization.has_biases:
            return None
        return self._calibrator.feedback(module)
