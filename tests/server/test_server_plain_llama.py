"""Completions and tokens of a plain Llama: text begins as its own tokenizer.json begins it."""

from pathlib import Path

import httpx
import pytest
from transformers import AutoTokenizer

import magistral_mlx
from tests.sample_llama import begin_texts, write_llama
from tests.server.running_server import running_server

TEXT = "Hello, what is 12 + 30?"


@pytest.mark.parametrize("begins", [False, True])
def test_text_begins_as_transformers_begins_it(begins: bool, tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "llama")
    begin = [begin_texts(folder, "<|endoftext|>")] if begins else []
    oracle = AutoTokenizer.from_pretrained(folder)
    want = oracle(TEXT).input_ids
    assert want == begin + oracle(TEXT, add_special_tokens=False).input_ids
    with (
        magistral_mlx.open_model(folder, window=256) as model,
        running_server(model) as server,
        httpx.Client(base_url=server.url) as http,
    ):
        for special, ids in ((True, want), (False, want[len(begin) :])):
            asked = {"content": TEXT, "add_special": special}
            assert http.post("/tokenize", json=asked).json()["tokens"] == ids
        completion = {"model": model.name, "max_tokens": 4, "temperature": 0}
        texts = [
            http.post("/v1/completions", json={"prompt": prompt, **completion}).json()
            for prompt in (TEXT, want)
        ]
        assert texts[0]["usage"]["prompt_tokens"] == len(want)
        assert texts[0]["choices"][0]["text"] == texts[1]["choices"][0]["text"]
