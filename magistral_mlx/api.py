"""The public API: open a model."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import mlx.core as mx

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.folder import Checkpoint, open_checkpoint
from magistral_mlx.device import DeviceOptions, compute_dtype, dtype_of, has_metal
from magistral_mlx.engine.engine import Engine
from magistral_mlx.engine.status import StepReport
from magistral_mlx.errors import RequestError, UserError
from magistral_mlx.folders import cache_folder
from magistral_mlx.kv.cache import kv_precision
from magistral_mlx.kv.disk.folder import kv_folder
from magistral_mlx.kv.disk.store import KVStore
from magistral_mlx.magistral import Magistral
from magistral_mlx.memory.needs import Workload
from magistral_mlx.memory.plan import MemoryPlan, plan
from magistral_mlx.memory.stages import plan_stages
from magistral_mlx.ranks.division import Split
from magistral_mlx.ranks.joining import follow, lead
from magistral_mlx.ranks.launch import Launch, find_launch
from magistral_mlx.ranks.team import Team
from magistral_mlx.reply import Reply
from magistral_mlx.spec import WINDOW
from magistral_mlx.text.template_tokenizer import open_tokenizer

__all__ = ["Magistral", "Reply", "open_model"]

logger = logging.getLogger(__name__)


def open_model(
    model: str | Path = "demo",
    *,
    window: int | None = None,
    dtype: str | None = None,
    kv_bits: int | None = None,
    kv_start: int = 0,
    kv_disk: int | None = None,
    wired: bool = False,
    split: Split = "heads",
    on_step: Callable[[StepReport], None] | None = None,
) -> Magistral:
    """Open a converted model and load its weights; close it after use, or use `with`.

    Args:
        model: an MLX folder, or "demo" for the demo model of the package, which is converted
            on first use.
        window: tokens of prompt and output together; by default 40,960 (model card), or less if
            the checkpoint or this machine's memory allows less.
        dtype: "bfloat16", "float16" or "float32" to compute in; by default the checkpoint's, and
            float32 on MLX's CPU backend.
        kv_bits: bits per value of the KV cache: 16 (as computed), 8 or 4; by default the most that
            leave nearly the whole window on this machine (memory.plan). A request may override it.
        kv_start: tokens at the beginning of a sequence that are never quantised.
        kv_disk: most bytes on disk, for all models together, for the KV of finished prompts and
            answers. Prompts that share a prefix with them then start sooner, even after a restart.
            The files hold the tokens of conversations, readable by this user only. None: keep none.
        wired: keep the planned memory where macOS cannot page it out. Off by default, because 32 GB
            Macs have panicked with it (mlx 3186, mlx-lm 1666).
        split: how several ranks divide the model: "heads": each has a part of every layer;
            "layers": each has some of the layers, by its memory.
        on_step: gets a report of every step, on the engine's thread: be quick.

    If mlx.launch has started several processes, each takes a part of the model, and only rank 0
    returns. The others follow it until it closes the model, then end with SystemExit. If a rank is
    lost, requests fail and all processes end.

    Raises:
        CheckpointError: the folder is missing or damaged, or holds another kind of model.
        RequestError: an option is not possible here, the disk cannot be used, or the ranks do not
            fit together.
        MemoryPlanError: the model and its window do not fit this machine.
        EngineError: a rank did not join, or was lost while the model was loading.
    """
    checkpoint = open_checkpoint(_demo_folder() if model == "demo" else Path(model).expanduser())
    _check_window(window, checkpoint)
    compute = None if dtype is None else dtype_of(dtype)
    kv_precision(kv_bits, start=kv_start)  # refused before anything is planned
    team = _team(checkpoint, split, kv_disk=kv_disk, wired=wired)
    try:
        workload = Workload(window=window, kv_bits=kv_bits, dtype=dtype)
        made = _plan(checkpoint.config, workload.on_this_machine(checkpoint.config), team)
        team.divide(made.layers)
        tokenizer = open_tokenizer(checkpoint.tokenizer_file)
        engine = Engine(
            checkpoint,
            tokenizer,
            window=made.window,
            device=_device(made, compute, wired=wired),
            kv_bytes=made.kv + made.prefix_cache,
            kv_precision=kv_precision(made.kv_bits, start=kv_start),
            prefix_bytes=made.kv + made.prefix_cache,
            kv_store=_kv_store(kv_disk, checkpoint, compute),
            costs_folder=cache_folder(),
            on_step=on_step,
            team=team,
        )
    except UserError as error:
        team.refuse(str(error))
        raise
    return Magistral(checkpoint, tokenizer, engine, made)


def _team(checkpoint: Checkpoint, split: Split, *, kv_disk: int | None, wired: bool) -> Team:
    """The ranks that share the model. A rank other than 0 follows and does not return."""
    launch = find_launch(os.environ)
    _check_split(split, launch, wired=wired)
    if launch is None:
        return Team()
    if kv_disk is not None:
        raise RequestError("--kv-disk is not possible with several ranks: leave it out.")
    if launch.rank > 0:
        follow(launch, checkpoint, split=split)
    return lead(launch, checkpoint, split=split)


def _plan(config: ModelConfig, workload: Workload, team: Team) -> MemoryPlan:
    if team.limits:
        return plan_stages(config, team.limits, workload)[0]
    return plan(config, team.limit, workload, ranks=team.size)


def _demo_folder() -> Path:
    # The runtime needs the converter for nothing else.
    from magistral_mlx.convert import ConversionOptions, convert, default_output

    folder = default_output("demo", bits=4)
    return folder if folder.is_dir() else convert("demo", options=ConversionOptions(rtn=True))


def _kv_store(limit: int | None, checkpoint: Checkpoint, dtype: mx.Dtype | None) -> KVStore | None:
    if limit is None:
        return None
    if limit < 1:
        raise RequestError(f"kv_disk is {limit}: give bytes, or leave it out.")
    computed = dtype or compute_dtype(checkpoint.config.dtype)
    return KVStore(kv_folder(), limit=limit, checkpoint=checkpoint, dtype=computed)


def _device(made: MemoryPlan, dtype: mx.Dtype | None, *, wired: bool) -> DeviceOptions:
    if wired and not has_metal():
        raise RequestError("Memory can be wired on a Mac with Metal only: leave --wired out.")
    # If layers are divided, other ranks may have less headroom.
    headroom = 0 if made.layers else made.headroom
    return DeviceOptions(
        dtype=dtype,
        # Memory that one layer frees serves the next; with headroom, so does that of a step.
        spare_bytes=max(made.step // 2, min(made.step, headroom)),
        wired_bytes=made.limit - made.headroom if wired else None,
    )


def _check_split(split: str, launch: Launch | None, *, wired: bool) -> None:
    if split not in get_args(Split):
        raise RequestError(f"split {split!r} is unknown: use heads or layers.")
    if split == "layers" and launch is None:
        raise RequestError(
            "--split layers needs several ranks and this process is the only one: leave it out, or "
            "start the ranks with mlx.launch."
        )
    if split == "layers" and wired:
        raise RequestError(
            "--wired is not possible with --split layers, whose ranks need different amounts: "
            "leave one of them out."
        )


def _check_window(window: int | None, checkpoint: Checkpoint) -> None:
    longest = checkpoint.config.max_position_embeddings
    if window is None:
        return
    if not 1 <= window <= longest:
        raise RequestError(
            f"A window of {window:,} tokens is not possible: {checkpoint.folder.name} has "
            f"{longest:,} positions, so choose 1 to {longest:,}."
        )
    if window > WINDOW:
        logger.warning(
            "A window of %s tokens: the model card promises no quality beyond %s.",
            f"{window:,}",
            f"{WINDOW:,}",
        )
