"""What the user chooses about a conversion."""

from dataclasses import dataclass

from magistral_mlx.errors import CheckpointError
from magistral_mlx.model_config import DTYPES, Quantization


@dataclass(frozen=True, slots=True)
class Settings:
    """Quantisation of the matrices; dtype of scales, biases and norms."""

    quantization: Quantization
    dtype: str

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise CheckpointError(
                f"dtype {self.dtype!r} is not supported: choose {', '.join(DTYPES)}."
            )
