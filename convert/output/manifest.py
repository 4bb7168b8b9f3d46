"""The record of a conversion, written beside the weights."""

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from magistral_mlx.convert.output.journal import Finished
from magistral_mlx.convert.output.shards import Shard
from magistral_mlx.convert.rounding.settings import Settings
from magistral_mlx.convert.rounding.weight_error import SAMPLED_ROWS
from magistral_mlx.convert.sources.source import Source

MANIFEST_FILE = "conversion.json"
FORMAT_VERSION = 2
PACKAGES = ("magistral-mlx", "mlx", "mistral-common")


def manifest_json(
    source: Source,
    settings: Settings,
    shards: tuple[Shard, ...],
    *,
    finished: Mapping[str, Finished],
    file_digests: Mapping[str, str],
) -> dict[str, object]:
    """Source, settings, versions, and the SHA-256 of every tensor's bytes and every other file.

    It holds no date and no path: the same conversion gives the same bytes.
    """
    ordered = [finished[tensor.name] for tensor in source.tensors]
    digests = {name: value for done in ordered for name, value in done.digests.items()}
    errors = {done.tensor: done.error for done in ordered if done.error is not None}
    return {
        "format_version": FORMAT_VERSION,
        "source": {
            "name": source.name,
            "revision": source.revision,
            "licence": source.licence,
            "layout": source.layout,
            "dtype": _source_dtypes(source),
            "fingerprint": source.fingerprint,
        },
        "settings": settings.as_json(),
        "versions": {"python": platform.python_version()} | package_versions(),
        "error": {
            "rows": f"every {SAMPLED_ROWS}th of a block",
            "tensors": {
                name: {"mean": error.mean, "largest": error.largest}
                for name, error in errors.items()
            },
        },
        "tensors": {
            name: {"file": shard.file_name, "sha256": digests[name]}
            for shard in shards
            for name in shard.entries
        },
        "files": {name: {"sha256": digest} for name, digest in file_digests.items()},
    }


def _source_dtypes(source: Source) -> list[str]:
    return sorted({tensor.dtype for tensor in source.tensors})


def package_versions() -> dict[str, str]:
    """The packages that the output's bytes depend on."""
    return {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
