"""Tokens a second: the same as `magistral-mlx bench`, from a checkout.

python benchmarks/tps.py --quick demo
python benchmarks/tps.py --help
"""

from magistral_mlx.terminal.bench import main

if __name__ == "__main__":
    main()
