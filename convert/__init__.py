"""Convert a Mistral checkpoint to a quantised MLX folder, tensor by tensor."""

from magistral_mlx.convert.conversion import convert
from magistral_mlx.convert.progress import conversion_bar
from magistral_mlx.convert.rounding.progress import Progress
from magistral_mlx.convert.sources.locations import default_output
from magistral_mlx.folders import models_folder

__all__ = ["Progress", "conversion_bar", "convert", "default_output", "models_folder"]
