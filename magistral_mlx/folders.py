"""The folders of this user's files. Environment variables move them, as to another disk."""

import os
from pathlib import Path

import platformdirs

APP = "magistral-mlx"
MODELS_VARIABLE = "MAGISTRAL_MLX_MODELS"
STATE_VARIABLE = "MAGISTRAL_MLX_STATE"
CACHE_VARIABLE = "MAGISTRAL_MLX_CACHE"
DATA_VARIABLE = "MAGISTRAL_MLX_DATA"


def models_folder() -> Path:
    """The folder of every converted model; it may not exist yet."""
    return _chosen(MODELS_VARIABLE) or platformdirs.user_data_path(APP) / "models"


def state_folder() -> Path:
    """The command line's state: the last model, the chat's history; it may not exist yet."""
    return _chosen(STATE_VARIABLE) or platformdirs.user_state_path(APP)


def data_folder() -> Path:
    """The page's conversations and settings; it may not exist yet."""
    return _chosen(DATA_VARIABLE) or platformdirs.user_data_path(APP) / "page"


def benchmarks_folder() -> Path:
    """The results of `bench --save`; it may not exist yet."""
    return (_chosen(DATA_VARIABLE) or platformdirs.user_data_path(APP)) / "benchmarks"


def cache_folder() -> Path:
    """Files that can be made again: demo model, KV, step costs; it may not exist yet."""
    return _chosen(CACHE_VARIABLE) or platformdirs.user_cache_path(APP)


def _chosen(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value).expanduser() if value else None
