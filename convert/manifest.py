"""The record of a conversion, written beside the weights."""

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from magistral_mlx.convert.settings import Settings
from magistral_mlx.convert.shards import Shard
from magistral_mlx.convert.source import Source

MANIFEST_FILE = "conversion.json"
FORMAT_VERSION = 1
PACKAGES = ("magistral-mlx", "mlx", "mistral-common")


def manifest_json(
    source: Source,
    settings: Settings,
    shards: tuple[Shard, ...],
    *,
    tensor_digests: Mapping[str, str],
    file_digests: Mapping[str, str],
) -> dict[str, object]:
    """Source, settings, versions, and the SHA-256 of every tensor's bytes and every other file.

    It holds no date and no path: the same conversion gives the same bytes.
    """
    quantization = settings.quantization
    return {
        "format_version": FORMAT_VERSION,
        "source": {"name": source.name, "layout": source.layout, "dtype": _source_dtypes(source)},
        "settings": {
            "bits": quantization.bits,
            "group_size": quantization.group_size,
            "mode": quantization.mode,
            "dtype": settings.dtype,
        },
        "versions": {"python": platform.python_version()}
        | {name: _version(name) for name in PACKAGES},
        "tensors": {
            name: {"file": shard.file_name, "sha256": tensor_digests[name]}
            for shard in shards
            for name in shard.entries
        },
        "files": {name: {"sha256": digest} for name, digest in file_digests.items()},
    }


def _source_dtypes(source: Source) -> list[str]:
    return sorted({tensor.dtype for tensor in source.tensors})


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
