"""Convert a Mistral checkpoint to a quantised MLX folder, tensor by tensor."""

from magistral_mlx.convert.conversion import convert
from magistral_mlx.convert.locations import default_output, models_folder
from magistral_mlx.convert.progress import Progress

__all__ = ["Progress", "convert", "default_output", "models_folder"]
