"""Calibrated and weighted conversions: nearer to the source's output, resumable, in bounds."""

import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import torch
from mlx_lm.utils import load as mlx_load
from transformers import LlamaForCausalLM
from typer.testing import CliRunner

from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.checkpoint.quantization import Quantization
from magistral_mlx.convert import ConversionOptions, Progress, convert
from magistral_mlx.convert.cli import app
from magistral_mlx.convert.output.manifest import open_stored
from magistral_mlx.convert.rounding.affine_fit import fitted
from magistral_mlx.convert.rounding.calibration import (
    calibration_pieces,
    embedded_pieces,
    load_stored,
)
from magistral_mlx.convert.rounding.feedback import Feedback
from magistral_mlx.convert.rounding.importance import read_importance, write_importance
from magistral_mlx.convert.rounding.layer_walk import product, walk
from magistral_mlx.convert.rounding.stored_form import dequantise
from magistral_mlx.convert.sources.open_source import open_source
from magistral_mlx.convert.verification import verify
from magistral_mlx.convert.vocabulary.open_vocabulary import open_vocabulary
from magistral_mlx.errors import CheckpointError
from magistral_mlx.model.decoder import load_decoder
from magistral_mlx.model.token_axis import Segment
from tests.sample_checkpoints import VOCAB as TEKKEN_VOCAB
from tests.sample_checkpoints import write_hf
from tests.sample_llama import VOCAB, begin_texts, write_llama

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("llama") / "source", dtype=torch.bfloat16)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")[:4_000])
    return path


def correlated_inputs(columns: int, tokens: int = 600) -> mx.array:
    """Inputs of few directions, some far larger than others, as a model's are."""
    numbers = np.random.default_rng(0)
    directions = numbers.normal(0, 1, (columns // 4, columns)) * numbers.lognormal(0, 1, columns)
    mixed = numbers.normal(0, 1, (tokens, columns // 4)) @ directions
    return mx.array((mixed + numbers.normal(0, 0.1, mixed.shape)).astype(np.float32))


def random_matrix(rows: int, columns: int) -> mx.array:
    numbers = np.random.default_rng(1).normal(0, 0.05, (rows, columns))
    return mx.array(numbers.astype(np.float32)).astype(mx.bfloat16)


def output_error(
    weights: mx.array, stored: tuple[mx.array, ...], quantization: Quantization, inputs: mx.array
) -> float:
    difference = np.array(dequantise(stored, quantization) - weights.astype(mx.float32))
    return float(np.square(np.array(inputs) @ difference.T).sum())


@pytest.mark.parametrize("bits", [3, 4])
def test_feedback_leaves_far_less_error_in_the_output_than_the_best_fit(bits: int) -> None:
    weights, inputs = random_matrix(48, 128), correlated_inputs(128)
    quantization = Quantization(bits, 32)
    alone = output_error(weights, fitted(weights, quantization), quantization, inputs)
    stored = Feedback([inputs[:200], inputs[200:]]).stored(weights, quantization)
    assert output_error(weights, stored, quantization, inputs) < 0.4 * alone


def test_rows_do_not_depend_on_how_they_are_cut_into_blocks() -> None:
    weights, quantization = random_matrix(48, 128), Quantization(4, 64)
    feedback = Feedback([correlated_inputs(128)])
    whole = feedback.stored(weights, quantization)
    parts = [feedback.stored(weights[start : start + 16], quantization) for start in (0, 16, 32)]
    for number, array in enumerate(whole):
        joined = mx.concatenate([part[number] for part in parts])
        assert mx.array_equal(joined, array)


def test_columns_that_the_text_never_uses_are_rounded_all_the_same() -> None:
    weights, quantization = random_matrix(16, 128), Quantization(4, 64)
    inputs = mx.concatenate([correlated_inputs(64), mx.zeros((600, 64))], axis=1)
    stored = Feedback([inputs]).stored(weights, quantization)
    kept = np.array(dequantise(stored, quantization))[:, 64:]
    exact = np.array(weights.astype(mx.float32))[:, 64:]
    assert np.linalg.norm(kept - exact) < 0.12 * np.linalg.norm(exact)


def test_importance_lowers_the_error_that_it_weighs() -> None:
    weights, quantization = random_matrix(48, 128), Quantization(3, 32)
    counts = mx.array(np.random.default_rng(2).lognormal(0, 2, 128).astype(np.float32))

    def weighed(stored: tuple[mx.array, ...]) -> float:
        squares = mx.square(dequantise(stored, quantization) - weights.astype(mx.float32))
        return float((squares * counts).sum())

    plain = weighed(fitted(weights, quantization))
    assert weighed(fitted(weights, quantization, counts)) < 0.9 * plain


def test_the_walk_computes_what_the_decoder_does(source: Path, tmp_path: Path) -> None:
    """Quantised and mixed, so that every way of reading a tensor back is walked."""
    folder = convert(
        source,
        tmp_path / "out",
        ConversionOptions(recipe="q4", group_size=32, modules=["*.o_proj=q8/64"]),
    )
    stored = open_stored(folder)
    config = stored.checkpoint.config
    ids = np.random.default_rng(0).integers(0, VOCAB, 50).tolist()
    inputs = embedded_pieces(config, [ids], stored.places)
    *_, last = walk(config, inputs, load_stored(config, stored.places))
    head = load_stored(config, stored.places)("model.embed_tokens.weight")
    found = np.array(product(next(last.inputs()), head))
    decoder = load_decoder(open_checkpoint(folder), dtype=mx.float32)
    want = np.array(decoder(mx.array(ids), [Segment(decoder.make_cache(), 50, 50)]))
    assert np.abs(found - want).max() < 1e-4 * np.abs(want).max()


def test_importance_is_the_mean_square_of_transformers_inputs(
    source: Path, text: Path, tmp_path: Path
) -> None:
    opened = open_source(source, fetched=tmp_path)
    count = write_importance(opened, text, tmp_path / "importance.safetensors")
    found = read_importance(tmp_path / "importance.safetensors", opened.config)
    pieces = calibration_pieces(text, open_vocabulary(source / "tokenizer.json", vocab_size=VOCAB))
    assert count == sum(map(len, pieces))
    oracle = LlamaForCausalLM.from_pretrained(source, dtype=torch.float32)
    seen: list[torch.Tensor] = []
    module = oracle.model.layers[1].mlp.down_proj
    module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        for piece in pieces:
            oracle(torch.tensor(piece)[None])
    squares = torch.cat([x[0] for x in seen]).square().mean(0).numpy()
    expected = squares / squares.mean() + 0.01
    assert np.allclose(found["model.layers.1.mlp.down_proj"], expected, rtol=1e-3, atol=1e-4)


def test_pieces_begin_as_the_tokenizer_begins_a_text(
    source: Path, text: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(source, tmp_path / "copy"))
    begin = begin_texts(copy, "<|im_start|>")
    plain, begun = (
        calibration_pieces(text, open_vocabulary(folder / "tokenizer.json", vocab_size=VOCAB))
        for folder in (source, copy)
    )
    assert plain[0][0] != begin
    assert {piece[0] for piece in begun} == {begin}
    assert begun[0][1:] == plain[0][:-1]
    tekken = write_hf(tmp_path / "tekken") / "tekken.json"
    pieces = calibration_pieces(text, open_vocabulary(tekken, vocab_size=TEKKEN_VOCAB))
    assert {piece[0] for piece in pieces} == {1}


def logits(folder: Path, ids: list[int]) -> mx.array:
    decoder = load_decoder(open_checkpoint(folder), dtype=mx.float32)
    return decoder(mx.array(ids), [Segment(decoder.make_cache(), len(ids), len(ids))])


def divergence(folder: Path, exact: Path, ids: list[int]) -> float:
    ours, theirs = (logits(path, ids) for path in (folder, exact))
    ours, theirs = (x - mx.logsumexp(x, axis=-1, keepdims=True) for x in (ours, theirs))
    return float((mx.exp(theirs) * (theirs - ours)).sum(-1).mean())


def test_a_calibrated_model_is_nearer_to_its_source_and_mlx_lm_reads_it(
    source: Path, text: Path, tmp_path: Path
) -> None:
    exact = convert(source, tmp_path / "bf16", ConversionOptions(recipe="bf16"))
    notes: list[str] = []
    calibrated = convert(
        source,
        tmp_path / "a",
        ConversionOptions(recipe="q3", group_size=32, calibrate=text),
        on_note=notes.append,
    )
    fit = convert(source, tmp_path / "b", ConversionOptions(recipe="q3", group_size=32))
    vocabulary = open_vocabulary(source / "tokenizer.json", vocab_size=VOCAB)
    other = vocabulary.encode((ROOT / "CONTRIBUTING.md").read_text())[:400]
    assert divergence(calibrated, exact, other) < 0.9 * divergence(fit, exact, other)
    assert any("GB of memory" in note for note in notes)
    assert verify(calibrated).failed == []
    assert "calibrated" in (calibrated / "README.md").read_text()
    theirs, _ = mlx_load(str(calibrated))
    their_logits = theirs(mx.array(other[:20])[None])[0].astype(mx.float32)
    assert mx.abs(their_logits - logits(calibrated, other[:20])).max() < 0.5


def test_an_interrupted_calibration_goes_on_to_the_same_bytes(
    source: Path, text: Path, tmp_path: Path
) -> None:
    whole = convert(source, tmp_path / "whole", ConversionOptions(group_size=32, calibrate=text))
    reached: list[str] = []

    def interrupt(progress: Progress) -> None:
        reached.append(progress.tensor)
        if progress.tensor == "model.layers.1.self_attn.k_proj.weight":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(
            source,
            tmp_path / "again",
            ConversionOptions(group_size=32, calibrate=text),
            on_progress=interrupt,
        )
    seen: list[str] = []
    again = convert(
        source,
        tmp_path / "again",
        ConversionOptions(group_size=32, calibrate=text),
        on_progress=lambda progress: seen.append(progress.tensor),
    )
    assert not set(reached[:-1]) & set(seen)
    assert (again / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    assert (again / "conversion.json").read_bytes() == (whole / "conversion.json").read_bytes()


def test_another_text_is_another_conversion(source: Path, text: Path, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if "layers.1" in progress.tensor:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(
            source,
            tmp_path / "out",
            ConversionOptions(group_size=32, calibrate=text),
            on_progress=stop,
        )
    other = tmp_path / "other.txt"
    other.write_text(text.read_text()[500:])
    with pytest.raises(CheckpointError, match="calibration"):
        convert(source, tmp_path / "out", ConversionOptions(group_size=32, calibrate=other))


def test_what_cannot_be_calibrated_is_refused(source: Path, text: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("Too short.")
    with pytest.raises(CheckpointError, match="at least 512"):
        convert(source, tmp_path / "out", ConversionOptions(group_size=32, calibrate=short))
    with pytest.raises(CheckpointError, match="--rtn"):
        convert(
            source, tmp_path / "out", ConversionOptions(group_size=32, calibrate=text, rtn=True)
        )
    with pytest.raises(CheckpointError, match="bf16"):
        convert(source, tmp_path / "out", ConversionOptions(recipe="bf16", calibrate=text))
    with pytest.raises(CheckpointError, match="cannot be read"):
        convert(source, tmp_path / "out", ConversionOptions(group_size=32, importance=short))
    assert not (tmp_path / "out").exists()


def test_the_commands_make_a_file_of_importances_and_take_it(
    source: Path, text: Path, tmp_path: Path
) -> None:
    file, plain = str(tmp_path / "importance.safetensors"), ["--recipe", "q3", "--group-size", "32"]
    runner = CliRunner()
    made = runner.invoke(app, ["importance", str(source), str(text), "-o", file])
    assert (made.exit_code, made.stdout) == (0, f"{file}\n")
    for name, options in (("weighted", ["--importance", file]), ("alike", [])):
        command = ["convert", str(source), str(tmp_path / name), *plain, *options]
        assert runner.invoke(app, command).exit_code == 0
    weighted, alike = (tmp_path / name / WEIGHTS for name in ("weighted", "alike"))
    assert weighted.read_bytes() != alike.read_bytes()
    assert "weighted by importance" in (tmp_path / "weighted" / "README.md").read_text()
    untied = str(write_hf(tmp_path / "untied"))
    both = [untied, str(tmp_path / "b"), "--importance", file, "--calibrate", str(text)]
    refused = runner.invoke(app, ["convert", *both])
    assert refused.exit_code == 2
    assert "--importance or --calibrate" in refused.stderr
