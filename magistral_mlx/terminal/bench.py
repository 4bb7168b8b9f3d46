"""The bench command."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from magistral_mlx.errors import RequestError
from magistral_mlx.folders import benchmarks_folder
from magistral_mlx.option_groups import takes_groups
from magistral_mlx.terminal import command_options as opt
from magistral_mlx.terminal.console import INTERRUPTED, consoles, exit_codes

if TYPE_CHECKING:
    from magistral_mlx.bench.bench_command import BenchCommand
    from magistral_mlx.bench.cases import Axes

PROMPTS, STREAMS, KV, TOKENS = "128,1k,4k,16k,32k,40k", "1,2,4,8", "16,8,4", 64
QUICK_PROMPTS, QUICK_STREAMS, QUICK_KV, QUICK_TOKENS = "128,1k", "1,4", "16,8", 24
RESULTS_FILE = "tps.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """What is measured, beside what, and where the results go."""

    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]",
            help="demo, the folder of a converted model, or its Hub id; after --compare llama.cpp "
            "also the path of llama-bench.",
            show_default="the model used last, or demo",
        ),
    ] = None
    model: Annotated[str | None, typer.Option(help="Same as MODEL.", show_default=False)] = None
    prompts: Annotated[
        str | None, typer.Option(help="Prompt lengths in tokens; k is 1,000.", show_default=PROMPTS)
    ] = None
    streams: Annotated[
        str | None, typer.Option(help="Simultaneous streams.", show_default=STREAMS)
    ] = None
    kv: Annotated[
        str | None,
        typer.Option(help="Bits of the KV cache; 16: not quantised.", show_default=KV),
    ] = None
    tokens: Annotated[
        int | None,
        typer.Option(help="Tokens that each stream generates.", show_default=str(TOKENS)),
    ] = None
    rounds: Annotated[int, typer.Option(min=1, help="Repetitions of each case.")] = 2
    every: Annotated[
        bool, typer.Option("--every", help="All combinations instead of one dimension at a time.")
    ] = False
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help=f"Shorter defaults: prompts {QUICK_PROMPTS}; streams {QUICK_STREAMS}; KV "
            f"{QUICK_KV}; {QUICK_TOKENS} tokens.",
        ),
    ] = False
    synthetic: Annotated[
        str | None,
        typer.Option(
            metavar="SHAPE",
            help="Made-up weights instead of a model: 24b (as Magistral Small), or small.",
            show_default=False,
        ),
    ] = None
    split: opt.SplitBy = "heads"
    compare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OTHER",
            help="Measure another engine in turn: mlx-lm, llama.cpp PATH (of llama-bench) or the "
            "URL of a server. May be repeated.",
            show_default=False,
        ),
    ] = None
    gguf: Annotated[
        Path | None, typer.Option(help="The model for llama-bench.", show_default=False)
    ] = None
    api_key: Annotated[
        str | None,
        typer.Option(envvar="OPENAI_API_KEY", help="API key of the server.", show_default=False),
    ] = None
    predict: Annotated[
        str, typer.Option(metavar="CHIP", help="Macs to predict for, for example M4; all or none.")
    ] = "all"
    save: Annotated[bool, typer.Option("--save", help="Add the figures to the results file.")] = (
        False
    )
    results: Annotated[
        Path | None,
        typer.Option(
            help="The results file; implies --save.",
            dir_okay=False,
            show_default=f"{RESULTS_FILE} in your data folder",
        ),
    ] = None
    plot: Annotated[
        Path | None,
        typer.Option(help="Save a plot as .png and .svg.", dir_okay=False, show_default=False),
    ] = None

    def command(self) -> "BenchCommand":
        """The command to run. Raises RequestError for impossible options."""
        from magistral_mlx.bench.bandwidth import choose_chips
        from magistral_mlx.bench.bench_command import BenchCommand
        from magistral_mlx.bench.compared import Compared

        name, binary = self._model_and_binary()
        if self.synthetic is not None and name is not None:
            raise RequestError(f"--synthetic makes weights up: leave {name} out, or --synthetic.")
        compared = self.compare or []
        return BenchCommand(
            words=["magistral-mlx", "bench", *sys.argv[2:]],
            model=name,
            synthetic=self.synthetic,
            split=self.split,
            axes=self._axes(),
            rounds=self.rounds,
            compared=Compared(compared, binary=binary, gguf=self.gguf, api_key=self.api_key),
            chips=choose_chips(self.predict),
            results=self.results or (benchmarks_folder() / RESULTS_FILE if self.save else None),
            plot=self.plot,
        )

    def _axes(self) -> "Axes":
        from magistral_mlx.bench.cases import Axes, parse_numbers

        quick = (QUICK_PROMPTS, QUICK_STREAMS, QUICK_KV, QUICK_TOKENS)
        prompts, streams, kv, tokens = quick if self.quick else (PROMPTS, STREAMS, KV, TOKENS)
        return Axes(
            prompts=parse_numbers(self.prompts or prompts, option="--prompts"),
            streams=parse_numbers(self.streams or streams, option="--streams"),
            kv_bits=parse_numbers(self.kv or kv, option="--kv"),
            tokens=self.tokens or tokens,
            every=self.every,
        )

    def _model_and_binary(self) -> tuple[str | None, Path | None]:
        """In `--compare llama.cpp PATH` the path arrives as a further argument."""
        words = self.words or []
        wants_binary = "llama.cpp" in (self.compare or [])
        binaries = [word for word in words if wants_binary and Path(word).expanduser().is_file()]
        names = [word for word in (self.model, *words) if word and word not in binaries]
        if len(names) > 1 or len(binaries) > 1:
            raise RequestError(f"{' and '.join([*names, *binaries])}: give one model at a time.")
        return names[0] if names else None, Path(binaries[0]).expanduser() if binaries else None


@takes_groups
def bench_command(*, options: BenchOptions) -> None:
    """Measure tokens per second, beside what memory bandwidth allows, and beside other engines."""
    console, errors = consoles()
    with exit_codes(errors):
        from magistral_mlx.bench.bench_command import run_bench_command

        if not run_bench_command(options.command(), console=console, errors=errors):
            raise typer.Exit(INTERRUPTED)
