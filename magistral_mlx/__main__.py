"""python -m magistral_mlx: the command line."""

from magistral_mlx.terminal.cli import main

main()
