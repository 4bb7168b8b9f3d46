"""What the user chooses about a conversion."""

from dataclasses import dataclass
from typing import Literal

from magistral_mlx.errors import CheckpointError
from magistral_mlx.model_config import DTYPES, Quantization

Method = Literal["optimal", "rtn"]
"""How scale and bias of a group are chosen: least squared error, or plain rounding."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Quantisation of the matrices; dtype of scales, biases and norms."""

    quantization: Quantization
    dtype: str
    method: Method = "rtn"

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise CheckpointError(
                f"dtype {self.dtype!r} is not supported: choose {', '.join(DTYPES)}."
            )

    def as_json(self) -> dict[str, object]:
        """The settings as journal and manifest record them."""
        quantization = self.quantization
        return {
            "bits": quantization.bits,
            "group_size": quantization.group_size,
            "mode": quantization.mode,
            "dtype": self.dtype,
            "method": self.method,
        }
