"""GGUF files of llama.cpp, Ollama and LM Studio: config, tensors and vocabulary, also split."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGUFReader, ReaderTensor
from gguf.quants import dequantize

from magistral_mlx.checkpoint.config import ROPE_THETA, ModelConfig
from magistral_mlx.checkpoint.json_file import JsonFields
from magistral_mlx.checkpoint.weight_shapes import check_shapes, plain_shapes
from magistral_mlx.convert.sources.local_folder import SAMPLE_BYTES
from magistral_mlx.convert.sources.other_layouts import GGUF_NAMES, HfTensor, hf_config_of
from magistral_mlx.convert.sources.source import Rows, Source, SourceTensor
from magistral_mlx.convert.vocabulary.gguf_vocabulary import write_tokenizer
from magistral_mlx.errors import CheckpointError

ARCHITECTURES = ("llama", "mistral3")
SPLIT = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
EXACT = ("F32", "F16", "BF16")
IGNORED = ("rope_freqs.weight",)


@dataclass(frozen=True, slots=True)
class GGUFTensor:
    """A tensor of a GGUF file, dequantised to float32 as it is read."""

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
    """Open a GGUF file, or all files of a split one, under Hugging Face's tensor names.

    tokenizer: a tekken.json or tokenizer.json. Without it, one is written to `fetched` from the
    file's vocabulary.
    Raises CheckpointError when the file is damaged or holds another kind of model.
    """
    parts = _parts(path)
    readers = [_open(part) for part in parts]
    _check_numbers(parts, readers)
    stored = {
        tensor.name: tensor
        for reader in readers
        for tensor in reader.tensors
        if tensor.name not in IGNORED
    }
    config = _config(readers[0], path, tied="output.weight" not in stored)
    tensors = _tensors(stored, config, path)
    if tokenizer is None:
        fetched.mkdir(parents=True, exist_ok=True)
        template = _field(readers[0], "tokenizer.chat_template")
        vocabulary = _fields(readers[0], "tokenizer.ggml.") | {"chat_template": template}
        tokenizer = write_tokenizer(vocabulary, fetched, path)
    licence = _field(readers[0], "general.license")
    return Source(
        name=name,
        layout="gguf",
        config=config,
        hf_config=hf_config_of(config),
        tensors=tensors,
        tokenizer_file=tokenizer,
        fingerprint=_fingerprint(stored, tokenizer),
        licence=licence if isinstance(licence, str) else None,
        notes=_notes(stored),
    )


def _parts(path: Path) -> list[Path]:
    """All files of a split model; `path` may be any of them."""
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
    # What the reader raises for a file that it cannot parse.
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise CheckpointError(
            f"{path} is damaged or no GGUF file ({error}): download it again."
        ) from error


def _check_numbers(parts: list[Path], readers: list[GGUFReader]) -> None:
    """A split file records its number: compare it with the name's."""
    for number, (part, reader) in enumerate(zip(parts, readers, strict=True)):
        found = _field(reader, "split.no")
        if isinstance(found, int) and found != number:
            raise CheckpointError(
                f"{part} says that it is file {found + 1} of its model: give the files the names "
                "they were downloaded with."
            )


def _field(reader: GGUFReader, name: str) -> object:
    field = reader.get_field(name)
    return None if field is None else field.contents()


def _fields(reader: GGUFReader, prefix: str) -> dict[str, object]:
    names = [name for name in reader.fields if name.startswith(prefix)]
    return {name.removeprefix(prefix): _field(reader, name) for name in names}


def _config(reader: GGUFReader, path: Path, *, tied: bool) -> ModelConfig:
    """The model's shape. Raises CheckpointError when the decoder does not support it."""
    kind = _field(reader, "general.architecture")
    if kind not in ARCHITECTURES:
        raise CheckpointError(
            f"{path} is of architecture {kind!r}: give a Mistral model (llama or mistral3)."
        )
    fields = JsonFields(_fields(reader, f"{kind}."), str(path))
    if fields.data.get("rope.scaling.type") not in (None, "none"):
        raise CheckpointError(f"{path} scales its rope, which is not supported: use another model.")
    if fields.data.get("expert_count"):
        raise CheckpointError(
            f"{path} is a mixture of experts, which is not supported: use another model."
        )
    hidden = fields.size("embedding_length")
    heads = fields.size("attention.head_count")
    has_theta = fields.data.get("rope.freq_base") is not None
    tokens = _field(reader, "tokenizer.ggml.tokens")
    return ModelConfig(
        vocab_size=fields.size(
            "vocab_size", default=len(tokens) if isinstance(tokens, list) else None
        ),
        hidden_size=hidden,
        intermediate_size=fields.size("feed_forward_length"),
        num_hidden_layers=fields.size("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=fields.size("attention.head_count_kv", default=heads),
        head_dim=fields.size("attention.key_length", default=hidden // heads),
        rms_norm_eps=_shortest(fields.number("attention.layer_norm_rms_epsilon")),
        rope_theta=_shortest(fields.number("rope.freq_base")) if has_theta else ROPE_THETA,
        max_position_embeddings=fields.size("context_length"),
        tie_word_embeddings=tied,
        dtype="bfloat16",
        quantization=None,
    )


def _shortest(number: float) -> float:
    """The shortest decimal of a float32: 1e-5 is stored as 9.99999974e-6."""
    return float(str(np.float32(number)))


def _tensors(
    stored: Mapping[str, ReaderTensor], config: ModelConfig, path: Path
) -> tuple[SourceTensor, ...]:
    names = plain_shapes(config)
    ours = {GGUF_NAMES.of(name): name for name in names}
    tensors = {ours.get(name, name): GGUFTensor(name, tensor) for name, tensor in stored.items()}
    check_shapes(config, {name: tensor.shape for name, tensor in tensors.items()}, path)
    for tensor in stored.values():
        _check_type(tensor, path)
    return tuple(HfTensor(name, tensors[name], config.head_dim) for name in names)


def _check_type(tensor: ReaderTensor, path: Path) -> None:
    _, block_bytes = GGML_QUANT_SIZES[tensor.tensor_type]
    try:
        dequantize(np.zeros(block_bytes, np.uint8), tensor.tensor_type)
    except NotImplementedError as error:
        raise CheckpointError(
            f"{path}: tensor {tensor.name} has type {tensor.tensor_type.name}, which cannot be "
            "read: use another file of this model."
        ) from error


def _fingerprint(stored: Mapping[str, ReaderTensor], tokenizer: Path) -> str:
    digest = sha256(tokenizer.read_bytes())
    for name, tensor in sorted(stored.items()):
        digest.update(f"{name} {tensor.tensor_type.name} {tensor.shape.tolist()}".encode())
        data = tensor.data.reshape(-1).view(np.uint8)
        middle = max(0, len(data) - SAMPLE_BYTES) // 2
        digest.update(data[middle : middle + SAMPLE_BYTES].tobytes())
    return digest.hexdigest()


def _notes(stored: Mapping[str, ReaderTensor]) -> tuple[str, ...]:
    lossy = sorted({tensor.tensor_type.name for tensor in stored.values()} - {*EXACT})
    if not lossy:
        return ()
    return (
        f"The file's weights were rounded before ({', '.join(lossy)}), and that error adds to this "
        "conversion's: convert the bfloat16 release if there is one.",
    )
