"""What evaluations need beyond the runtime: the [eval] extra."""

from importlib.util import find_spec

from magistral_mlx.errors import UserError

MODULES = ("math_verify", "py3langid", "duckdb", "matplotlib")


def check_extra() -> None:
    """Raises UserError when the extra is not installed, before hours of work."""
    missing = [name for name in MODULES if find_spec(name) is None]
    if missing:
        raise UserError(
            f"eval needs {', '.join(missing)}: install it with pip install 'magistral-mlx[eval]'."
        )
