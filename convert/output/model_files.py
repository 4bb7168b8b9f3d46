"""The files beside the weights: config, generation defaults, tokenizer, system prompt."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.convert.output.manifest import MANIFEST_FILE
from magistral_mlx.convert.sources.source import Source
from magistral_mlx.convert.vocabulary.open_vocabulary import Vocabulary

SYSTEM_PROMPT_FILE = "SYSTEM_PROMPT.txt"

LEFT_OUT = ("_name_or_path", "transformers_version", "dtype")
"""Fields of the source's config.json about its export; torch_dtype is replaced."""

NULLS = ("sliding_window",)
"""Fields whose null is kept: without it, transformers assumes a window of 4,096."""


def config_json(source: Source, config: ModelConfig, vocabulary: Vocabulary) -> dict[str, object]:
    """config.json as mlx-lm writes it.

    rope_theta and tie_word_embeddings are always at the top level. A config of transformers 5 may
    have them elsewhere, where mlx-lm does not look: it assumes 10,000 and true.
    """
    kept = {
        key: value
        for key, value in source.hf_config.items()
        if key not in LEFT_OUT and (value is not None or key in NULLS)
    }
    fields = {
        **_special_ids(vocabulary),
        **kept,
        "rope_theta": source.config.rope_theta,
        "tie_word_embeddings": source.config.tie_word_embeddings,
        "torch_dtype": config.dtype,
        **_quantization_json(config),
    }
    return dict(sorted(fields.items()))


def write_tokenizer_files(folder: Path, source: Source, vocabulary: Vocabulary) -> None:
    """Write tokenizer and chat template, and copy the small files.

    Raises CheckpointError when the tokenizer cannot be written for other programs.
    """
    for path in source.companions:
        shutil.copyfile(path, folder / path.name)
    prompt = folder / SYSTEM_PROMPT_FILE
    vocabulary.write(
        folder,
        window=source.config.max_position_embeddings,
        system_prompt=prompt.read_text(encoding="utf-8") if prompt.is_file() else None,
    )


def write_model_files(
    folder: Path, *, config: Mapping[str, object], vocabulary: Vocabulary, card: str
) -> dict[str, str]:
    """Write config and model card; returns the SHA-256 (hex) of each file beside the weights."""
    write_json(folder / "config.json", config)
    (folder / "README.md").write_text(card, encoding="utf-8")
    if not (folder / "generation_config.json").exists():
        write_json(folder / "generation_config.json", _special_ids(vocabulary))
    small = (path for path in sorted(folder.iterdir()) if path.suffix != ".safetensors")
    return {path.name: file_digest(path) for path in small if path.name != MANIFEST_FILE}


def write_json(path: Path, data: Mapping[str, object]) -> None:
    """Write JSON as mlx-lm formats it."""
    path.write_text(json.dumps(data, indent=4) + "\n", encoding="utf-8")


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a small file."""
    return sha256(path.read_bytes()).hexdigest()


def _special_ids(vocabulary: Vocabulary) -> dict[str, object]:
    first, *others = vocabulary.end_ids
    return {
        "bos_token_id": vocabulary.bos_id,
        "eos_token_id": [first, *others] if others else first,
    }


def _quantization_json(config: ModelConfig) -> dict[str, object]:
    """As mlx-lm writes it: exceptions by module name, false for not quantised."""
    if config.quantization is None:
        return {}
    stored: dict[str, object] = asdict(config.quantization)
    for name, own in config.module_quantization:
        stored[name] = False if own is None else asdict(own)
    return {"quantization": stored, "quantization_config": stored}
