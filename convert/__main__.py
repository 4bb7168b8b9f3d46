"""python -m magistral_mlx.convert SOURCE [OUTPUT]"""

from magistral_mlx.convert.cli import main

main()
