"""GGUF files of llama.cpp, Ollama and LM Studio: config, names and weights, whole or split."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader, ReaderTensor
from gguf.quants import dequantize

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.weight_shapes import check_shapes, weight_shapes
from magistral_mlx.convert.sources.fingerprint import SAMPLE_BYTES
from magistral_mlx.convert.sources.gguf_fields import GGUFFields, config_of
from magistral_mlx.convert.sources.other_layouts import ROTATED, RotaryRows, hf_config_of
from magistral_mlx.convert.sources.source import Rows, Source, SourceTensor
from magistral_mlx.convert.vocabulary.gguf_tekken import write_tekken_of
from magistral_mlx.convert.vocabulary.gguf_vocabulary import write_json_of
from magistral_mlx.errors import CheckpointError
from magistral_mlx.text.tokenizer import TEKKEN_FILE

SPLIT = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
EXACT = ("F32", "F16", "BF16")
IGNORED = ("rope_freqs.weight",)

TOP = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


@dataclass(frozen=True, slots=True)
class GGUFTensor:
    """Rows of one tensor, dequantised to float32 as they are read."""

    name: str
    stored: ReaderTensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(int(size) for size in reversed(self.stored.shape))

    @property
    def dtype(self) -> str:
        return "F32"

    def read_rows(self, start: int, stop: int) -> Rows:
        """Rows [start, stop) as float32."""
        kind = self.stored.tensor_type
        if len(self.shape) == 1:
            numbers = dequantize(self.stored.data, kind).reshape(-1)[start:stop]
        else:
            numbers = dequantize(self.stored.data[start:stop], kind)
        exact = np.ascontiguousarray(numbers, dtype=np.float32)
        return exact.reshape(stop - start, *self.shape[1:]).view(np.uint32)


def open_gguf(path: Path, *, name: str, tokenizer: Path | None, fetched: Path) -> Source:
    """Check a GGUF file, or all files of a split one, and present it under mlx-lm's names.

    tokenizer: a tekken.json or tokenizer.json; without it, one is written to `fetched` from the
    file's vocabulary.
    Raises CheckpointError when the file is damaged or holds another kind of model.
    """
    parts = _parts(path)
    readers = [_open(part) for part in parts]
    _check_numbers(parts, readers)
    fields = GGUFFields(readers[0], path)
    found = {
        tensor.name: tensor
        for reader in readers
        for tensor in reader.tensors
        if tensor.name not in IGNORED
    }
    config = config_of(fields, tied="output.weight" not in found)
    tensors = _tensors(found, config, path)
    if tokenizer is None:
        fetched.mkdir(parents=True, exist_ok=True)
        tokenizer = _write_tokenizer(fields, fetched)
    return Source(
        name=name,
        layout="gguf",
        config=config,
        hf_config=hf_config_of(config),
        tensors=tensors,
        tokenizer_file=tokenizer,
        companions=(),
        fingerprint=_fingerprint(found, tokenizer),
        licence=fields.text("general.license"),
        notes=_notes(found),
    )


def _write_tokenizer(fields: GGUFFields, folder: Path) -> Path:
    """Tekken's vocabulary, or a plain Llama-architecture model's."""
    vocabulary = dict(fields.values("tokenizer.ggml."))
    if vocabulary.get("pre") == "tekken":
        write_tekken_of(vocabulary, folder / TEKKEN_FILE, fields.path)
        return folder / TEKKEN_FILE
    vocabulary["chat_template"] = fields.get("tokenizer.chat_template")
    return write_json_of(vocabulary, folder, fields.path)


def gguf_name(name: str) -> str:
    """llama.cpp's name: model.layers.3.mlp.up_proj.weight is blk.3.ffn_up.weight."""
    if name in TOP:
        return TOP[name]
    _, _, index, rest = name.split(".", 3)
    return f"blk.{index}.{LAYER[rest.removesuffix('.weight')]}.weight"


def _parts(path: Path) -> list[Path]:
    """All files of a split model, whichever of them was named."""
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist: give a GGUF file.")
    match = SPLIT.search(path.name)
    if match is None:
        return [path]
    stem, count = path.name[: match.start()], int(match[2])
    parts = [path.with_name(f"{stem}-{n:05d}-of-{count:05d}.gguf") for n in range(1, count + 1)]
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        raise CheckpointError(
            f"{path} is one of {count} files, and {missing[0]} is missing in {path.parent}: "
            "download all of them."
        )
    return parts


def _open(path: Path) -> GGUFReader:
    try:
        return GGUFReader(path)
    # The reader raises these for what it cannot make sense of.
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise CheckpointError(
            f"{path} is damaged or no GGUF file ({error}): download it again."
        ) from error


def _check_numbers(parts: list[Path], readers: list[GGUFReader]) -> None:
    """A split file knows which one it is, whatever its name says."""
    for number, (part, reader) in enumerate(zip(parts, readers, strict=True)):
        field = reader.get_field("split.no")
        found = number if field is None else field.contents()
        if found != number:
            raise CheckpointError(
                f"{part} says that it is file {found + 1} of its model: give the files the names "
                "they were downloaded with."
            )


def _check_type(tensor: ReaderTensor, path: Path) -> None:
    _, block_bytes = GGML_QUANT_SIZES[tensor.tensor_type]
    try:
        dequantize(np.zeros(block_bytes, np.uint8), tensor.tensor_type)
    except NotImplementedError as error:
        raise CheckpointError(
            f"{path}: tensor {tensor.name} has type {tensor.tensor_type.name}, which cannot be "
            "read: use another file of this model."
        ) from error


def _tensors(
    found: Mapping[str, ReaderTensor], config: ModelConfig, path: Path
) -> tuple[SourceTensor, ...]:
    ours = {gguf_name(name): name for name in weight_shapes(config)}
    tensors = {
        ours.get(name, name): GGUFTensor(ours.get(name, name), tensor)
        for name, tensor in found.items()
    }
    check_shapes(config, {name: tensor.shape for name, tensor in tensors.items()}, path)
    for tensor in found.values():
        _check_type(tensor, path)
    return tuple(_in_hf_order(tensors[name], config.head_dim) for name in ours.values())


def _in_hf_order(tensor: GGUFTensor, head_dim: int) -> SourceTensor:
    """llama.cpp lays query and key rows in pairs, as the Mistral layout does."""
    return RotaryRows(tensor, head_dim) if tensor.name.endswith(ROTATED) else tensor


def _fingerprint(found: Mapping[str, ReaderTensor], tokenizer: Path) -> str:
    digest = sha256(tokenizer.read_bytes())
    for name, tensor in sorted(found.items()):
        digest.update(f"{name} {tensor.tensor_type.name} {tensor.shape.tolist()}".encode())
        data = tensor.data.reshape(-1).view(np.uint8)
        middle = max(0, len(data) - SAMPLE_BYTES) // 2
        digest.update(data[middle : middle + SAMPLE_BYTES].tobytes())
    return digest.hexdigest()


def _notes(found: Mapping[str, ReaderTensor]) -> tuple[str, ...]:
    lossy = sorted(set(_rounded_types(found)))
    if not lossy:
        return ()
    return (
        f"The file's weights were rounded before ({', '.join(lossy)}): that error stays and adds "
        "to this conversion's. Convert the bfloat16 release where there is one.",
    )


def _rounded_types(found: Mapping[str, ReaderTensor]) -> Iterator[str]:
    for tensor in found.values():
        kind = GGMLQuantizationType(tensor.tensor_type).name
        if kind not in EXACT:
            yield kind
