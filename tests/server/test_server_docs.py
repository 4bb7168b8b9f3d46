"""The examples of docs/server.md, and the model card's own client script."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

import magistral_mlx
from magistral_mlx import Magistral
from magistral_mlx.server.answering.model_slot import model_names
from magistral_mlx.spec import HUB_ID, SYSTEM_PROMPT
from tests.server.running_server import RunningServer, running_server

PAGE = Path(__file__).parents[2] / "docs" / "server.md"
EXAMPLES = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)

CARD_SCRIPT = """\
from openai import OpenAI
from huggingface_hub import hf_hub_download

# Modify OpenAI's API key and API base to use vLLM's API server.
openai_api_key = "EMPTY"
openai_api_base = "http://localhost:8000/v1"

TEMP = 0.7
TOP_P = 0.95
MAX_TOK = 40_960

client = OpenAI(
    api_key=openai_api_key,
    base_url=openai_api_base,
)

models = client.models.list()
model = models.data[0].id


def load_system_prompt(repo_id: str, filename: str) -> str:
    file_path = hf_hub_download(repo_id=repo_id, filename=filename)
    with open(file_path, "r") as file:
        system_prompt = file.read()
    return system_prompt


SYSTEM_PROMPT = load_system_prompt(model, "SYSTEM_PROMPT.txt")

query = "What is 12 + 30?"

messages = [
    {"role": "system", "content": SYSTEM_PROMPT},
    {"role": "user", "content": query},
]
stream = client.chat.completions.create(
    model=model,
    messages=messages,
    stream=True,
    temperature=TEMP,
    top_p=TOP_P,
    max_tokens=MAX_TOK,
)

print("client: Start streaming chat completions...")
printed_content = False

for chunk in stream:
    content = None
    # Check the content is reasoning_content or content
    if hasattr(chunk.choices[0].delta, "content"):
        content = chunk.choices[0].delta.content

    if content is not None:
        if not printed_content:
            printed_content = True
            print("\\ncontent:", end="", flush=True)
        # Extract and print the content
        print(content, end="", flush=True)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Magistral]:
    """The demo in a folder of Magistral Small's name."""
    with magistral_mlx.open_model("demo") as demo:
        folder = demo.checkpoint.folder
    named = tmp_path_factory.mktemp("named") / "Magistral-Small-2506-4bit"
    shutil.copytree(folder, named)
    with magistral_mlx.open_model(named) as opened:
        assert model_names(opened)[0] == HUB_ID
        yield opened


@pytest.fixture(scope="module")
def server(model: Magistral) -> Iterator[RunningServer]:
    with running_server(model) as running:
        yield running


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_with_curl_work_as_they_stand(server: RunningServer, example: str) -> None:
    script = example.replace("http://127.0.0.1:8000", server.url)
    done = subprocess.run(
        ["sh", "-ec", script], capture_output=True, text=True, timeout=100, check=True
    )
    assert '"error"' not in done.stdout
    if "-sN" in example:
        assert done.stdout.endswith("data: [DONE]\n\n")
        assert '"usage":{' in done.stdout
    elif "json_schema" in example:
        message = json.loads(done.stdout)["choices"][0]["message"]
        assert isinstance(json.loads(message["content"])["sum"], int)
    elif "/metrics" in example:
        assert "magistral_up 1.0" in done.stdout
    else:
        assert "42" in done.stdout


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 5


def test_the_model_cards_script_runs_unchanged_but_for_the_port(
    server: RunningServer, tmp_path: Path
) -> None:
    script = CARD_SCRIPT.replace("localhost:8000", f"localhost:{server.port}")
    with hub() as endpoint:
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "\ncontent:" in done.stdout
    assert "42" in done.stdout


@contextmanager
def hub() -> Iterator[str]:
    """A stand-in for the Hub, with one file."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Hub(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        content = SYSTEM_PROMPT.encode()
        found = self.path == f"/{HUB_ID}/resolve/main/SYSTEM_PROMPT.txt"
        self.send_response(200 if found else 404)
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", str(len(content) if found else 0))
        self.end_headers()
        if body and found:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
