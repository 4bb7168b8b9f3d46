"""SHA-256 of tensors that lie in safetensors files, read back from the disk."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

from magistral_mlx.checkpoint.safetensors_header import TensorEntry
from magistral_mlx.errors import CheckpointError

CHUNK = 4 << 20
THREADS = 4
"""hashlib lets other threads run while it works."""


def tensor_digest(path: Path, entry: TensorEntry) -> str:
    """SHA-256 (hex) of one tensor's bytes; CheckpointError when the file cannot be read."""
    digest = sha256()
    try:
        with path.open("rb") as file:
            file.seek(entry.start)
            left = entry.stop - entry.start
            while left and (data := file.read(min(CHUNK, left))):
                digest.update(data)
                left -= len(data)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}): check the disk and run this again."
        ) from error
    return digest.hexdigest()


def wrong_tensors(
    places: Mapping[str, tuple[Path, TensorEntry]], digests: Mapping[str, str]
) -> list[str]:
    """The tensors among `digests` whose bytes on the disk have another checksum."""
    names = list(digests)

    def right(name: str) -> bool:
        path, entry = places[name]
        return path.is_file() and tensor_digest(path, entry) == digests[name]

    with ThreadPoolExecutor(THREADS) as threads:
        return _failing(names, threads.map(right, names))


def _failing(names: Iterable[str], results: Iterable[bool]) -> list[str]:
    return [name for name, right in zip(names, results, strict=True) if not right]
