"""Fixtures that more than one module shares; loading a tokenizer takes about a second."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

from magistral_mlx.checkpoint.folder import Checkpoint, open_checkpoint
from magistral_mlx.convert import ConversionOptions, convert, default_output
from magistral_mlx.demo.tekken import write_tekken
from magistral_mlx.text.tokenizer import Tokenizer
from tests.sample_checkpoints import write_hf
from tests.text.token_streams import Oracle


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_reaches_programs() -> None:
    """A shell that runs the tests in the background has it ignored, and programs inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def folders_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests neither read nor write what belongs to the user."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MODELS", "STATE", "CACHE", "DATA"):
            patch.setenv(f"MAGISTRAL_MLX_{name}", str(tmp_path_factory.mktemp(name.lower())))
        yield


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Random weights, as few as can be, and a small vocabulary."""
    return open_checkpoint(write_hf(tmp_path_factory.mktemp("tiny") / "tiny"))


@pytest.fixture(scope="session")
def demo_folder(folders_of_their_own: None) -> Path:
    """The nano at 4 bits, where `open_model("demo")` finds it too. Not to be written to."""
    folder = default_output("demo", bits=4)
    return folder if folder.is_dir() else convert("demo", options=ConversionOptions(rtn=True))


@pytest.fixture(scope="session")
def tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    return Tokenizer.open(checkpoint.folder)


@pytest.fixture(scope="session")
def tekken_v11(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tekken.json of Magistral Small 2506's form, with the full vocabulary."""
    path = tmp_path_factory.mktemp("v11") / "tekken.json"
    write_tekken(path, version="v11")
    return path


@pytest.fixture(scope="session")
def tekken_v13(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with [THINK] and [/THINK] as control tokens, as from 2507 on."""
    path = tmp_path_factory.mktemp("v13") / "tekken.json"
    write_tekken(path, version="v13")
    return path


@pytest.fixture(scope="session")
def tokenizer_v11(tekken_v11: Path) -> Tokenizer:
    return Tokenizer.open(tekken_v11)


@pytest.fixture(scope="session")
def tokenizer_v13(tekken_v13: Path) -> Tokenizer:
    return Tokenizer.open(tekken_v13)


@pytest.fixture(scope="session")
def oracle_v11(tekken_v11: Path) -> Oracle:
    """mistral-common itself, loaded apart from our own."""
    return MistralTokenizer.from_file(tekken_v11)


@pytest.fixture(scope="session")
def oracle_v13(tekken_v13: Path) -> Oracle:
    """mistral-common itself, loaded apart from our own."""
    return MistralTokenizer.from_file(tekken_v13)
