"""The Hugging Face layout: config.json and model*.safetensors, with an index when sharded."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.folder import find_weight_files, read_entries
from magistral_mlx.checkpoint.json_file import existing_file, read_json
from magistral_mlx.checkpoint.weight_shapes import check_entries, plain_shapes
from magistral_mlx.convert.sources.fingerprint import files_fingerprint
from magistral_mlx.convert.sources.mlx_tensor import MlxTensor
from magistral_mlx.convert.sources.source import Source, SourceTensor, StoredTensor
from magistral_mlx.convert.sources.tensors import FileTensor
from magistral_mlx.convert.vocabulary.open_vocabulary import tokenizer_files, vocabulary_file


def open_hf_folder(folder: Path, *, name: str, companions: tuple[Path, ...]) -> Source:
    """Check a folder of the Hugging Face layout: config, tokenizer, every weight file's header.

    Raises CheckpointError with the file and what is wrong with it.
    """
    read_json(folder / "config.json")
    tokenizer_file = existing_file(vocabulary_file(folder))
    entries = read_entries(find_weight_files(folder))
    small_files = (folder / "config.json", *tokenizer_files(tokenizer_file), *companions)
    return hf_source(
        folder,
        name=name,
        companions=companions,
        tensors={name: FileTensor(name, *found) for name, found in entries.items()},
        fingerprint=files_fingerprint(small_files, entries),
    )


def hf_source(
    folder: Path,
    *,
    name: str,
    companions: tuple[Path, ...],
    tensors: Mapping[str, StoredTensor],
    fingerprint: str,
) -> Source:
    """The source whose small files lie in a folder, and its tensors there or elsewhere."""
    hf_config = read_json(folder / "config.json")
    config = ModelConfig.from_hf(hf_config)
    check_entries(config, {name: tensor.entry for name, tensor in tensors.items()}, folder)
    return Source(
        name=name,
        layout="hugging face",
        config=replace(config, quantization=None, module_quantization=()),
        hf_config=hf_config,
        tensors=tuple(_tensor(name, tensors, config) for name in plain_shapes(config)),
        tokenizer_file=existing_file(vocabulary_file(folder)),
        companions=companions,
        fingerprint=fingerprint,
        notes=_notes(config),
    )


def _tensor(name: str, tensors: Mapping[str, StoredTensor], config: ModelConfig) -> SourceTensor:
    """A tensor as it is stored, or dequantised where the folder is an MLX folder."""
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
        f"The source is quantised to {config.quantization.bits} bits already: that error stays and "
        "adds to this conversion's. Convert the bfloat16 release where there is one.",
    )
