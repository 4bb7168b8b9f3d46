"""Rounding blocks of rows: plainly, with the least error, by importance, or calibrated."""

import mlx.core as mx

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.quantization import Quantization
from magistral_mlx.convert.rounding.affine_fit import fitted
from magistral_mlx.convert.rounding.calibration import Calibrator
from magistral_mlx.convert.rounding.importance import Importance
from magistral_mlx.convert.rounding.stored_form import stored_as
from magistral_mlx.convert.sources.read_ahead import RowBlock
from magistral_mlx.convert.sources.source import Rows, as_array
from magistral_mlx.device import dtype_of
from magistral_mlx.errors import CheckpointError


class NotFiniteError(CheckpointError):
    """A weight is not finite in the output's type."""


class Rounder:
    """Rounds the blocks of a conversion, in the order of the forward pass."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        rtn: bool = False,
        importance: Importance | None = None,
        calibrator: Calibrator | None = None,
    ) -> None:
        """config: of the output. rtn: round plainly, as mlx-lm does."""
        self._config = config
        self._rtn = rtn
        self._importance = importance or {}
        self._calibrator = calibrator

    def stored(self, block: RowBlock, rows: Rows) -> tuple[mx.array, tuple[mx.array, ...]]:
        """The rows in the output's type, and their stored form as `stored_names` orders it.

        As in `mlx_lm.convert`, the rows are cast first, then quantised. Raises NotFiniteError when
        a value does not fit the type.
        """
        name, quantization = block.tensor.name, stored_as(block.tensor, self._config)
        weights = as_array(rows, block.tensor.dtype).astype(dtype_of(self._config.dtype))
        if quantization is None:
            stored: tuple[mx.array, ...] = (weights,)
        elif self._rtn or not quantization.has_biases:
            size, bits, mode = quantization.group_size, quantization.bits, quantization.mode
            stored = tuple(mx.quantize(weights, group_size=size, bits=bits, mode=mode))
        else:
            stored = self._fitted(name.removesuffix(".weight"), weights, quantization)
        mx.eval(weights, stored)
        # One-byte scales are always finite: check the weights there.
        has_floats = quantization is None or quantization.has_biases
        _check_finite(name, stored if has_floats else (weights,), self._config.dtype)
        return weights, stored

    def _fitted(
        self, module: str, weights: mx.array, quantization: Quantization
    ) -> tuple[mx.array, ...]:
        feedback = None if self._calibrator is None else self._calibrator.feedback(module)
        if feedback is not None:
            return feedback.stored(weights, quantization)
        importance = self._importance.get(module)
        return fitted(weights, quantization, None if importance is None else mx.array(importance))


def _check_finite(name: str, stored: tuple[mx.array, ...], dtype: str) -> None:
    """A weight that is not finite makes its group's scale not finite, which is quick to check."""
    for values in stored:
        if mx.issubdtype(values.dtype, mx.floating) and not mx.all(mx.isfinite(values)).item():
            raise NotFiniteError(
                f"{name} is not finite in {dtype}: the source is damaged or needs a wider type "
                "(--dtype bfloat16 or float32)."
            )
