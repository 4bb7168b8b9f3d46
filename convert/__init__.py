"""Convert a Mistral checkpoint to a quantised MLX folder, tensor by tensor.

It must not know how the runtime generates.
"""

from magistral_mlx.convert.conversion import convert
from magistral_mlx.convert.options import ConversionOptions, default_output
from magistral_mlx.convert.progress import Progress, conversion_bar
from magistral_mlx.convert.sources.open_source import DEMO

__all__ = [
    "DEMO",
    "ConversionOptions",
    "Progress",
    "conversion_bar",
    "convert",
    "default_output",
]
