"""What tells one source from another: its small files, its headers, a sample of each tensor."""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path

from magistral_mlx.checkpoint.safetensors_header import TensorEntry

SAMPLE_BYTES = 4096
"""Bytes of each tensor that are looked at: 47 GB are told apart in no time."""


def files_fingerprint(
    small_files: Iterable[Path], entries: Mapping[str, tuple[Path, TensorEntry]]
) -> str:
    """SHA-256 (hex) of the small files' bytes, of every tensor's place and of its middle."""
    digest = sha256()
    for path in small_files:
        digest.update(sha256(path.read_bytes()).digest())
    for name, (path, entry) in sorted(entries.items()):
        digest.update(f"{name} {path.name} {entry}".encode())
        digest.update(_middle(path, entry))
    return digest.hexdigest()


def _middle(path: Path, entry: TensorEntry) -> bytes:
    size = entry.stop - entry.start
    with path.open("rb") as file:
        file.seek(entry.start + max(0, size - SAMPLE_BYTES) // 2)
        return file.read(min(SAMPLE_BYTES, size))
