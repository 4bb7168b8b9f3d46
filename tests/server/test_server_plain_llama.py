"""Completions and tokens of a plain Llama: text begins as its own tokenizer.json begins it."""

from pathlib import Path

import httpx
import pytest
from transformers import AutoTokenizer

import magistral_mlx
from tests.sample_llama import begin_texts, write_llama
from tests.server.running_server import running_server

TEXT = "Hello <|im_end|> there"


@pytest.mark.parametrize("begins", [False, True])
def test_text_begins_as_transformers_begins_it(begins: bool, tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "llama")
    begin = [begin_texts(folder, "<|endoftext|>")] if begins else []
    plain = "Hello there"
    assert AutoTokenizer.from_pretrained(folder)(plain).input_ids[:1] == (begin or [40])
    with (
        magistral_mlx.open_model(folder, window=256) as model,
        running_server(model) as server,
        httpx.Client(base_url=server.url) as http,
    ):
        text = model.tokenizer.encode(TEXT)
        for special, want in ((True, begin + text), (False, text)):
            asked = {"content": TEXT, "add_special": special}
            assert http.post("/tokenize", json=asked).json()["tokens"] == want
        asked = {"model": model.name, "prompt": TEXT, "max_tokens": 2}
        got = http.post("/v1/completions", json=asked).json()
        assert got["usage"]["prompt_tokens"] == len(begin + text)
