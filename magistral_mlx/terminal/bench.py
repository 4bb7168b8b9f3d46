"""The command line of benchmarks."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from magistral_mlx.errors import RequestError
from magistral_mlx.folders import benchmarks_folder
from magistral_mlx.terminal import command_options as opt
from magistral_mlx.terminal.console import INTERRUPTED, consoles, exit_codes

PROMPTS, STREAMS, KV, TOKENS = "128,1k,4k,16k,32k,40k", "1,2,4,8", "16,8,4", 64
QUICK_PROMPTS, QUICK_STREAMS, QUICK_KV, QUICK_TOKENS = "128,1k", "1,4", "16,8", 24
RESULTS_FILE = "tps.jsonl"

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[MODEL]",
        help="demo, the folder of a converted model, or the Hub id of one that was converted; "
        "after --compare llama.cpp also the path of llama-bench.",
        show_default="the model used last, or demo",
    ),
]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="The same as MODEL.", show_default=False)
]
Prompts = Annotated[
    str | None, typer.Option(help="Tokens of the prompts; k is 1,000.", show_default=PROMPTS)
]
Streams = Annotated[str | None, typer.Option(help="Streams at once.", show_default=STREAMS)]
KVBits = Annotated[
    str | None,
    typer.Option("--kv", help="Bits of the KV cache; 16: as computed.", show_default=KV),
]
Tokens = Annotated[
    int | None, typer.Option(help="Tokens that each stream decodes.", show_default=str(TOKENS))
]
Rounds = Annotated[int, typer.Option(min=1, help="How often each case is measured.")]
Every = Annotated[
    bool, typer.Option("--every", help="All combinations, not one dimension at a time.")
]
Quick = Annotated[
    bool,
    typer.Option(
        "--quick",
        help=f"By default {QUICK_PROMPTS}; {QUICK_STREAMS} streams; KV {QUICK_KV}; {QUICK_TOKENS} "
        "tokens.",
    ),
]
Synthetic = Annotated[
    str | None,
    typer.Option(
        metavar="SHAPE",
        help="Made-up weights instead of a model: 24b, or small to try it.",
        show_default=False,
    ),
]
Compare = Annotated[
    list[str] | None,
    typer.Option(
        metavar="OTHER",
        help="Run in turn with mlx-lm, llama.cpp PATH (of llama-bench) or the URL of a server. May "
        "be repeated.",
        show_default=False,
    ),
]
Gguf = Annotated[Path | None, typer.Option(help="The model for llama-bench.", show_default=False)]
ApiKey = Annotated[
    str | None,
    typer.Option("--api-key", envvar="OPENAI_API_KEY", help="Of the server.", show_default=False),
]
PredictFor = Annotated[
    str,
    typer.Option("--predict", metavar="CHIP", help="Macs to predict for: M4, say; all or none."),
]
Save = Annotated[bool, typer.Option("--save", help="Add the figures to your results file.")]
Results = Annotated[
    Path | None,
    typer.Option(
        help="The results file; implies --save.",
        dir_okay=False,
        show_default=f"{RESULTS_FILE} in your data folder",
    ),
]
PlotFile = Annotated[
    Path | None,
    typer.Option(help="Draw it as this .png and .svg.", dir_okay=False, show_default=False),
]


def bench_command(
    words: Words = None,
    model: ModelOption = None,
    prompts: Prompts = None,
    streams: Streams = None,
    kv: KVBits = None,
    tokens: Tokens = None,
    rounds: Rounds = 2,
    every: Every = False,
    quick: Quick = False,
    synthetic: Synthetic = None,
    split: opt.SplitBy = "heads",
    compare: Compare = None,
    gguf: Gguf = None,
    api_key: ApiKey = None,
    predict: PredictFor = "all",
    save: Save = False,
    results: Results = None,
    plot: PlotFile = None,
) -> None:
    """Measure tokens a second, beside the bound that memory bandwidth sets, and beside others."""
    console, errors = consoles()
    with exit_codes(errors):
        from magistral_mlx.bench.bandwidth import choose_chips
        from magistral_mlx.bench.bench_command import BenchCommand, run_bench_command
        from magistral_mlx.bench.cases import Axes, parse_numbers
        from magistral_mlx.bench.compared import Compared

        others = compare or []
        name, binary = _model_and_binary(words or [], model, others)
        if synthetic is not None and name is not None:
            raise RequestError(f"--synthetic makes weights up: leave {name} out, or --synthetic.")
        axes = Axes(
            prompts=parse_numbers(
                prompts or _default(quick, QUICK_PROMPTS, PROMPTS), option="--prompts"
            ),
            streams=parse_numbers(
                streams or _default(quick, QUICK_STREAMS, STREAMS), option="--streams"
            ),
            kv_bits=parse_numbers(kv or _default(quick, QUICK_KV, KV), option="--kv"),
            tokens=tokens or (QUICK_TOKENS if quick else TOKENS),
            every=every,
        )
        command = BenchCommand(
            words=["magistral-mlx", "bench", *_arguments()],
            model=name,
            synthetic=synthetic,
            split=split,
            axes=axes,
            rounds=rounds,
            compared=Compared(others, binary=binary, gguf=gguf, api_key=api_key),
            chips=choose_chips(predict),
            results=results or (benchmarks_folder() / RESULTS_FILE if save else None),
            plot=plot,
        )
        if not run_bench_command(command, console=console, errors=errors):
            raise typer.Exit(INTERRUPTED)


def _arguments() -> list[str]:
    """What follows `bench`, or the program's name."""
    return sys.argv[2:] if sys.argv[1:2] == ["bench"] else sys.argv[1:]


def _default(quick: bool, short: str, full: str) -> str:
    return short if quick else full


def _model_and_binary(
    words: Sequence[str], model: str | None, others: Sequence[str]
) -> tuple[str | None, Path | None]:
    """A shell hands on `--compare llama.cpp PATH` as an option and a further argument."""
    wants_binary = "llama.cpp" in others
    binaries = [word for word in words if wants_binary and Path(word).expanduser().is_file()]
    names = [*([model] if model is not None else []), *(w for w in words if w not in binaries)]
    if len(names) > 1 or len(binaries) > 1:
        raise RequestError(f"{' and '.join([*names, *binaries])}: give one model at a time.")
    return names[0] if names else None, Path(binaries[0]).expanduser() if binaries else None
