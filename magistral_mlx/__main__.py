"""python -m magistral_mlx: the command line."""

from magistral_mlx.cli import main

main()
