"""Others that do the same work: mlx-lm, a llama-bench, and servers with OpenAI's API."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import magistral_mlx
from magistral_mlx import Magistral
from magistral_mlx.bench.bench_model import narrow_shape
from magistral_mlx.bench.case_results import Round, case_result, measure_round
from magistral_mlx.bench.cases import Case, Rates, prompt_text, stream_prompts
from magistral_mlx.bench.compared import LlamaBench
from magistral_mlx.bench.openai_server import OpenAIContender
from magistral_mlx.demo.random_model import write_random_model
from magistral_mlx.errors import UserError
from magistral_mlx.kv.prefix_cache import PrefixCache
from magistral_mlx.terminal.cli import app
from magistral_mlx.text.tokenizer import Tokenizer
from tests.server.running_server import running_server

CASE = Case(prompt=60, streams=1, kv_bits=16, tokens=16)

LLAMA_BENCH = """\
#!/bin/sh
# Prints what llama-bench prints, and notes how it was called.
echo "$@" >> "$(dirname "$0")/calls"
case "$*" in *"-n 0"*) rate=512.5;; *) rate=48.25;; esac
cat <<END
[
  {
    "build_commit": "8cf427ff",
    "model_type": "llama 24B Q4_K - Medium",
    "n_prompt": 0,
    "n_gen": 16,
    "n_depth": 60,
    "avg_ts": 1.0,
    "stddev_ts": 0.0,
    "samples_ns": [ 1000000 ],
    "samples_ts": [ $rate ]
  }
]
END
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("bench") / "tiny", narrow_shape(2))


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[Magistral]:
    with magistral_mlx.open_model(folder, kv_bits=16) as opened:
        yield opened


@pytest.fixture
def llama(tmp_path: Path) -> LlamaBench:
    return LlamaBench(program(tmp_path, LLAMA_BENCH), gguf(tmp_path))


def program(folder: Path, text: str) -> Path:
    path = folder / "llama-bench"
    path.write_text(text)
    path.chmod(0o755)
    return path


def gguf(folder: Path) -> Path:
    (folder / "model.gguf").write_bytes(b"GGUF")
    return folder / "model.gguf"


def test_a_known_prompt_is_served_from_the_prefix_cache_and_then_forgotten(
    model: Magistral, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, again = (measure_round(model.engine, CASE, seed=7) for _ in range(2))
    for found in (first, again):
        assert found.known_first is not None
        assert len(found.decode) == 2
    # Had it not been forgotten, the second cold one would have been a known one.
    seen: list[int] = []
    take = PrefixCache.take

    def noted(self: PrefixCache, *args: object, **options: object) -> object:
        cache = take(self, *args, **options)  # type: ignore[arg-type]
        seen.append(cache.length if cache is not None else 0)
        return cache

    monkeypatch.setattr(PrefixCache, "take", noted)
    measure_round(model.engine, CASE, seed=7)
    assert seen == [0, CASE.prompt - 1]


def test_a_prompt_that_was_not_kept_has_no_figure_for_a_known_one(
    model: Magistral, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PrefixCache, "take", lambda *_, **__: None)
    assert measure_round(model.engine, CASE, seed=8).known_first is None


def test_no_two_prompts_begin_alike() -> None:
    prompts = [p for seed in range(1, 4) for p in stream_prompts(64, 8, seed=seed)]
    assert len({tuple(prompt[:3]) for prompt in prompts}) == len(prompts)


def test_llama_bench_is_asked_for_the_prompt_and_for_the_tokens_behind_it(
    llama: LlamaBench, tmp_path: Path
) -> None:
    assert llama.run(CASE, seed=1) == Rates(512.5, 48.25, first_token=60 / 512.5)
    calls = (tmp_path / "calls").read_text().splitlines()
    options = f"-m {tmp_path / 'model.gguf'} -o json -r 1"
    assert calls == [f"{options} -p 60 -n 0", f"{options} -p 0 -n 16 -d 60"]
    llama.run(Case(60, 1, 8, 16), seed=1)
    last = (tmp_path / "calls").read_text().splitlines()[-1]
    assert last.endswith("-d 60 -ctk q8_0 -ctv q8_0 -fa 1")
    assert llama.refuses(Case(60, 2, 16, 16)) == "llama-bench runs one stream"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("#!/bin/sh\necho no such model >&2\nexit 3\n", "ended with 3: no such model"),
        ("#!/bin/sh\necho '| model | t/s |'\n", "use a llama-bench that knows -o json"),
        ("#!/bin/sh\necho '[]'\n", "did not print one test as JSON"),
    ],
)
def test_a_llama_bench_that_fails_is_refused_with_what_it_said(
    tmp_path: Path, script: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        LlamaBench(program(tmp_path, script), gguf(tmp_path)).run(CASE, seed=1)


def test_the_path_after_compare_llama_cpp_is_not_taken_for_a_model(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("magistral_mlx.bench.bandwidth.LARGEST", 40_000_000)
    binary, file = program(tmp_path, LLAMA_BENCH), gguf(tmp_path)
    words = ["bench", "--compare", "llama.cpp", str(binary), "--gguf", str(file), str(folder)]
    axes = ["--prompts", "60", "--streams", "1,2", "--kv", "16", "--tokens", "16"]
    done = CliRunner().invoke(app, [*words, *axes])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.splitlines()[-1])
    one, two = found["cases"]
    ratio = one["compared"]["llama.cpp"]["decode"]
    assert ratio["theirs"] == 48.25
    assert ratio["ratio_least"] <= ratio["ratio"] <= ratio["ratio_most"]
    assert two["compared"] == {}
    assert found["not_compared"] == {
        "llama.cpp: prompt 60, 2 streams": "llama-bench runs one stream"
    }


def test_a_server_is_timed_over_http_by_its_own_counts(model: Magistral) -> None:
    with running_server(model) as server:
        contender = OpenAIContender(server.v1, model.tokenizer)
        for streams in (1, 2):
            case = Case(prompt=60, streams=streams, kv_bits=16, tokens=32)
            rates = contender.run(case, seed=3)
            assert rates.first_token is not None
            assert rates.decode is not None
            assert rates.prefill is not None
            assert rates.decode > 0
            # The server's count has its template and system prompt, too.
            assert rates.prefill * rates.first_token > streams * case.prompt
        assert contender.refuses(Case(60, 1, 8, 32)) is not None


def test_the_command_compares_with_a_server_by_its_url(
    model: Magistral, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("magistral_mlx.bench.bandwidth.LARGEST", 40_000_000)
    axes = ["--prompts", "60", "--streams", "1", "--kv", "16,8", "--tokens", "32"]
    with running_server(model) as server:
        done = CliRunner().invoke(app, ["bench", str(folder), "--compare", server.v1, *axes])
    assert done.exit_code == 0, done.output
    plain, quantised = json.loads(done.stdout.splitlines()[-1])["cases"]
    assert plain["compared"][server.v1]["decode"]["theirs"] > 0
    assert quantised["compared"] == {}
    assert "its KV precision is chosen over there" in done.stderr


def test_a_url_where_nobody_answers_is_refused(model: Magistral) -> None:
    with pytest.raises(UserError, match="does not answer as OpenAI's API does"):
        OpenAIContender("http://127.0.0.1:9/v1", model.tokenizer)


def test_a_prompt_of_text_has_about_as_many_tokens(tokenizer_v11: Tokenizer) -> None:
    text = prompt_text(tokenizer_v11, 400, seed=5)
    assert len(tokenizer_v11.encode(text)) == pytest.approx(400, rel=0.05)
    assert text != prompt_text(tokenizer_v11, 400, seed=6)


def test_ratios_are_taken_round_by_round_and_above_one_is_better() -> None:
    rounds = [Round(100, [10.0], 1.0, None, 5), Round(200, [30.0], 0.5, 0.1, 7)]
    theirs = {"other": [Rates(50, 20.0, 3.0), Rates(50, 15.0, 1.0)], "late": [Rates(1, 1, 1)]}
    result = case_result(CASE, rounds, theirs, bound=40.0)
    found = result.comparisons["other"]
    ranges = {name: (ratio.least, ratio.most) for name, ratio in found.items() if ratio}
    assert ranges == {"prefill": (2, 4), "decode": (0.5, 2), "first_token": (2, 3)}
    assert set(result.comparisons) == {"other"}  # a round that was interrupted is no pair
    assert result.reached == 0.5
    assert result.peak_bytes == 7


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_mlx_lm_runs_the_same_folder_in_turn(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("magistral_mlx.bench.bandwidth.LARGEST", 40_000_000)
    axes = ["--prompts", "60", "--streams", "1,2", "--kv", "16,8", "--tokens", "24"]
    words = ["bench", str(folder), "--compare", "mlx-lm", *axes, "--every", "--predict", "none"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.splitlines()[-1])
    compared = {(c["streams"], c["kv_bits"]): c["compared"] for c in found["cases"]}
    for key in ((1, 16), (2, 16), (1, 8)):
        assert all(compared[key]["mlx-lm"][name]["theirs"] > 0 for name in ("prefill", "decode"))
    assert compared[2, 8] == {}
    assert "does not quantise the KV of several streams" in done.stderr
    assert "Ours over theirs" in done.stdout
