"""A checkpoint in a folder, in the Hugging Face or the Mistral layout."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Literal

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.folder import find_tokenizer_file, find_weight_files, read_entries
from magistral_mlx.checkpoint.json_file import existing_file, read_json
from magistral_mlx.checkpoint.safetensors_header import TensorEntry
from magistral_mlx.checkpoint.weight_shapes import check_entries, plain_shapes
from magistral_mlx.convert.sources.other_layouts import MISTRAL_NAMES, HfTensor, hf_config_of
from magistral_mlx.convert.sources.source import Source, SourceTensor
from magistral_mlx.convert.sources.tensors import FileTensor, MlxTensor, local_tensor
from magistral_mlx.convert.vocabulary.open_vocabulary import tokenizer_files
from magistral_mlx.errors import CheckpointError
from magistral_mlx.text.tokenizer import TEKKEN_FILE

Layout = Literal["hugging face", "mistral"]
CONFIG_FILES: Mapping[Layout, str] = {"hugging face": "config.json", "mistral": "params.json"}
MISTRAL_WEIGHTS = "consolidated.safetensors"

COMPANIONS = ("generation_config.json", "SYSTEM_PROMPT.txt", "LICENSE", "LICENSE.txt", "NOTICE")
"""Small files that are copied unchanged where they exist. A tokenizer.json beside tekken.json is
made from tekken.json instead, because some releases' files differ."""

SAMPLE_BYTES = 4096
"""Bytes of each tensor that enter the fingerprint: reading all 47 GB would take minutes."""


def open_folder(folder: Path, *, name: str) -> Source:
    """Open a folder of either layout; one with both is read in the Hugging Face layout.

    Raises CheckpointError when it has neither, or when a file is missing or damaged.
    """
    companions = _companions(folder)
    layout = _layout(folder)
    config_file = folder / CONFIG_FILES[layout]
    read_json(config_file)
    tokenizer_file = _tokenizer_file(folder, layout)
    is_mistral = layout == "mistral"
    entries = read_entries(
        (existing_file(folder / MISTRAL_WEIGHTS),) if is_mistral else find_weight_files(folder)
    )
    small_files = (config_file, *tokenizer_files(tokenizer_file), *companions)
    return folder_source(
        folder,
        name=name,
        layout=layout,
        tensors={tensor: local_tensor(tensor, place) for tensor, place in entries.items()},
        fingerprint=_fingerprint(small_files, entries),
    )


def folder_source(
    folder: Path,
    *,
    name: str,
    layout: Layout,
    tensors: Mapping[str, FileTensor],
    fingerprint: str,
) -> Source:
    """The source of a folder's small files and of tensors in weight files there or elsewhere.

    Raises CheckpointError when the files disagree.
    """
    read = read_json(folder / CONFIG_FILES[layout])
    is_mistral = layout == "mistral"
    config = ModelConfig.from_params(read) if is_mistral else ModelConfig.from_hf(read)
    if is_mistral:
        hf_names = {MISTRAL_NAMES.of(each): each for each in plain_shapes(config)}
        tensors = {hf_names.get(each, each): tensor for each, tensor in tensors.items()}
    check_entries(config, {each: tensor.entry for each, tensor in tensors.items()}, folder)
    return Source(
        name=name,
        layout=layout,
        config=replace(config, quantization=None, module_quantization=()),
        hf_config=hf_config_of(config) if is_mistral else read,
        tensors=tuple(_hf_tensor(each, tensors, config, layout) for each in plain_shapes(config)),
        tokenizer_file=_tokenizer_file(folder, layout),
        companions=_companions(folder),
        fingerprint=fingerprint,
        notes=_notes(config),
    )


def _layout(folder: Path) -> Layout:
    has_hf_weights = any(folder.glob("model*.safetensors"))
    if (folder / MISTRAL_WEIGHTS).is_file() and not has_hf_weights:
        return "mistral"
    if (folder / "config.json").is_file() or has_hf_weights:
        return "hugging face"
    if (folder / "params.json").is_file():
        return "mistral"
    raise CheckpointError(
        f"{folder} holds neither config.json nor params.json: give the folder of a Mistral "
        "checkpoint."
    )


def _companions(folder: Path) -> tuple[Path, ...]:
    found = tuple(folder / name for name in COMPANIONS if (folder / name).is_file())
    for path in found:
        if path.suffix == ".json":
            read_json(path)
    return found


def _tokenizer_file(folder: Path, layout: Layout) -> Path:
    if layout == "mistral":
        return existing_file(folder / TEKKEN_FILE)
    return find_tokenizer_file(folder)


def _hf_tensor(
    name: str, tensors: Mapping[str, FileTensor], config: ModelConfig, layout: Layout
) -> SourceTensor:
    """A tensor in Hugging Face's row order; dequantised, if the folder is an MLX folder."""
    if layout == "mistral":
        return HfTensor(name, tensors[name], config.head_dim)
    module = name.removesuffix(".weight")
    quantization = config.quantization_of(module)
    if quantization is None or f"{module}.scales" not in tensors:
        return tensors[name]
    scales, biases = tensors[f"{module}.scales"], tensors.get(f"{module}.biases")
    return MlxTensor(tensors[name], scales, biases, quantization)


def _notes(config: ModelConfig) -> tuple[str, ...]:
    if config.quantization is None:
        return ()
    return (
        f"The source is already quantised to {config.quantization.bits} bits, and its error adds "
        "to this conversion's: convert the bfloat16 release if there is one.",
    )


def _fingerprint(
    small_files: Iterable[Path], entries: Mapping[str, tuple[Path, TensorEntry]]
) -> str:
    """SHA-256 (hex) of the small files, of every tensor's place, and of bytes from its middle."""
    digest = sha256()
    for path in small_files:
        digest.update(sha256(path.read_bytes()).digest())
    for name, (path, entry) in sorted(entries.items()):
        digest.update(f"{name} {path.name} {entry}".encode())
        size = entry.stop - entry.start
        with path.open("rb") as file:
            file.seek(entry.start + max(0, size - SAMPLE_BYTES) // 2)
            digest.update(file.read(min(SAMPLE_BYTES, size)))
    return digest.hexdigest()
