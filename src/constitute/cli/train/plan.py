"""`constitute train plan`: what a training takes of a GPU, before a weight is loaded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from constitute.cli import options

if TYPE_CHECKING:
    from constitute.train.plan.plan import Plan

_GIB = 1 << 30


@options.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@options.compose(options.model, options.sets, options.as_json, options.debug)
@click.option("--gpu", required=True, help="A GPU by name, such as h100 or rtx4090, or its memory in GiB.")
@click.option("--gpus", type=click.IntRange(1), default=1, show_default=True, help="How many of them.")
@click.option("--sharded", is_flag=True, help="Split the weights over the GPUs (FSDP2).")
@click.option(
    "--prompt-tokens", type=click.IntRange(1), default=256, show_default=True, help="Tokens of a prompt."
)
@click.option(
    "--method",
    "methods",
    multiple=True,
    callback=options.names,
    metavar="NAME[,NAME]",
    help="Trainers: sft, reward, dpo, ppo, grpo; those of train.method if absent. KTO is dpo with --set "
    "train.dpo.loss=kto.",
)
def plan(
    file: Path | None,
    model: str | None,
    sets: tuple[str, ...],
    as_json: bool,
    gpu: str,
    gpus: int,
    sharded: bool,
    prompt_tokens: int,
    methods: list[str],
) -> int:
    """Say what each trainer of FILE takes of a GPU's memory, and the nearest settings that fit.

    FILE is run.yaml; or a model's config.json, or its folder, for default settings; --model alone is that,
    too. Reads the model's config.json and no weights. Bytes hold for passes in bfloat16; times are estimates
    from the GPU's data sheet. The exit code is 4 where a trainer does not fit.

    \b
    Examples:
      constitute train plan run.yaml --gpu h100
      constitute train plan big/config.json --gpu 24 --method dpo --set train.dpo.loss=kto
      constitute train plan --model Qwen/Qwen3-8B --gpu 80 --gpus 8 --sharded --method sft,grpo
    """
    from constitute.cli.text import said_if_slow
    from constitute.errors import ExitCode
    from constitute.train.plan.given import METHODS, check_methods, settings_for

    # What follows them loads torch.
    check_methods(methods)
    config = settings_for(file, sets, model)

    from constitute.train.common.from_run import trainable_model
    from constitute.train.plan.plan import plan_training
    from constitute.train.plan.speed import gpu_of

    device, name = gpu_of(gpu), trainable_model(config)
    wanted = methods or [step for step in METHODS if step in config.train.steps]
    with said_if_slow("building the model without its weights"):
        plans = plan_training(config, wanted, name, device, count=gpus, sharded=sharded, prompt=prompt_tokens)
    if as_json:
        for one in plans:
            values = one.model_dump(mode="json") | {"fits": one.fits, "most": one.most}
            click.echo(json.dumps({"event": "result", **values}))
    else:
        _print(plans)
    return ExitCode.OK if all(one.fits for one in plans) else ExitCode.GATE_FAILED


def _print(plans: Sequence[Plan]) -> None:
    from constitute.cli.text import table

    for one in plans:
        names = list(one.phases)
        rows: list[tuple[object, ...]] = [
            (part.name, *(_size(part.bytes) if name in part.phases else "" for name in names))
            for part in one.parts
        ]
        rows.append(("together", *(_size(one.phases[name]) for name in names)))
        size = f"{one.parameters / 1e9:.2f} B parameters"
        click.echo(f"{one.method}: {size}, GiB on each of {one.gpus} GPUs of {_size(one.memory)}")
        click.echo(table(("part", *names), rows))
        click.echo(_verdict(one))
        if one.note:
            click.echo(one.note)
        click.echo()


def _size(count: int) -> str:
    return f"{count / _GIB:.1f}"


def _verdict(one: Plan) -> str:
    took = {"ppo": "an iteration", "grpo": "an iteration"}.get(one.method, "a million tokens")
    time = "" if one.seconds is None else f"; about {one.seconds:.3g} s for {took} (estimate)"
    if one.fits:
        return f"fits: {_size(one.most)} of {_size(one.memory)} GiB{time}"
    said = f"does not fit: {_size(one.most)} of {_size(one.memory)} GiB"
    if not one.changes:
        return f"{said}; no setting tried makes it fit: take a smaller model, or more GPUs with --sharded"
    tried = " or ".join(" ".join(map(_option, chosen)) for chosen in one.changes)
    return f"{said}; it does with {tried}"


def _option(change: str) -> str:
    return change if change.startswith("--") else f"--set {change}"
