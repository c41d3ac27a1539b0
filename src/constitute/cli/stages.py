"""`constitute generate`, `revise` and `label`: the data stages, each alone."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from constitute.cli import options
from constitute.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from constitute.config import RunConfig
    from constitute.pipeline import Counts
    from constitute.pipeline.budget import Limits
    from constitute.progress import Progress
    from constitute.stages.verdict import LabelVerdict

retry = click.option(
    "--retry-failed",
    "retry",
    is_flag=True,
    help="Ask again for rows that failed before; with the setting that their reason blames, such as --set "
    "generate.max_tokens=400, those rows alone are made with it.",
)
judge = click.option("--judge", help="Another model that labels in the model's place.")
pairs = click.option(
    "--pairs",
    "pairs_files",
    multiple=True,
    help="Label your own pairs: a file with prompt, a, b; several files add up. A preference that the rows "
    "hold (chosen and rejected, or human) is what the labels are measured against.",
)
principles = click.option("--principles", help="one, all, or how many to draw for each pair.")


@options.command()
@options.compose(options.common, options.model, options.prompts, options.samples, options.limit)
@options.compose(options.shard, options.skip_bad, options.reuse, retry, options.limits)
def generate(
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    model: str | None,
    prompts_file: str | None,
    samples: int | None,
    limit: int | None,
    shard: str | None,
    skip_bad: bool,
    reuse_dir: Path | None,
    retry: bool,
    limits: Limits,
) -> int:
    """Sample n responses for each prompt.

    Prompts come from JSONL (text or messages), Parquet, HH transcripts or a Hub data set. The same
    command continues a run that stopped; more prompts or a larger -n add to it.

    \b
    Examples:
      constitute generate --model smollm2 --prompts prompts.jsonl -n 2
      constitute generate --model http://localhost:8000 --prompts prompts.jsonl --set generate.temperature=0.7
    """
    wanted = {
        "model": model,
        "prompts": prompts_file,
        "generate.n": samples,
        "limit": limit,
        "seed": seed,
        "shard": shard,
    }
    config = options.configured(run_dir, config_file, sets, {**wanted, "reuse": reuse_dir})
    return run_stage(config, "generate", as_json=as_json, skip_bad=skip_bad, retry=retry, limits=limits)


@options.command()
@options.compose(
    options.common, options.model, options.constitution, options.limit, options.reuse, retry, options.limits
)
@options.shard
@click.option("--rounds", type=click.IntRange(1, 64), help="Critique-revision rounds.")
def revise(
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    model: str | None,
    constitution_file: str | None,
    limit: int | None,
    shard: str | None,
    reuse_dir: Path | None,
    retry: bool,
    limits: Limits,
    rounds: int | None,
) -> int:
    """Critique and revise the run's responses under the constitution.

    Each row and round draws one principle; every intermediate revision is kept.

    \b
    Examples:
      constitute revise --constitution assistant
      constitute revise --run my-run --constitution constitution.yaml --rounds 4 --set revise.critique=false
    """
    wanted = {"model": model, "constitution": constitution_file, "limit": limit, "seed": seed, "shard": shard}
    config = options.configured(
        run_dir, config_file, sets, {**wanted, "revise.rounds": rounds, "reuse": reuse_dir}
    )
    return run_stage(config, "revise", as_json=as_json, skip_bad=False, retry=retry, limits=limits)


@options.command()
@options.compose(options.common, options.model, judge, options.constitution, pairs, principles, options.limit)
@options.compose(options.shard, options.skip_bad, options.reuse, retry, options.limits)
def label(
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    model: str | None,
    judge: str | None,
    constitution_file: str | None,
    pairs_files: tuple[str, ...],
    principles: str | None,
    limit: int | None,
    shard: str | None,
    skip_bad: bool,
    reuse_dir: Path | None,
    retry: bool,
    limits: Limits,
) -> int:
    """Label pairs with soft preferences: log-probabilities of A and B, in both orders.

    label.pairs says which answers are compared: two samples of a prompt (samples), every two (all), the
    best and the worst (best_worst), a response and its last revision (revision), every two of its
    revisions (revisions), answers of another run (models), under a principle and against it (contrast);
    --pairs labels your own. Labels that say nothing of the answers, as of a judge that prefers whichever
    is shown first, end with exit code 4.

    \b
    Examples:
      constitute label --constitution assistant --set label.pairs=revision
      constitute label --run judged --model smollm2 --constitution assistant --pairs pairs.jsonl
    """
    wanted = {
        "model": model,
        "judge": judge,
        "constitution": constitution_file,
        "limit": limit,
        "shard": shard,
    }
    more = {"label.principles": principles, "seed": seed, "reuse": reuse_dir}
    config = options.configured(run_dir, config_file, sets, {**wanted, **more})
    return run_stage(
        config,
        "label",
        as_json=as_json,
        skip_bad=skip_bad,
        retry=retry,
        limits=limits,
        pairs_files=pairs_files,
    )


def stage_command(name: str) -> click.Command:
    """The command of a stage that has none of its own: it reads the rows of the stage before it."""

    @options.command(name, help=f"Run the stage {name} of the chain on the rows of the stage before it.")
    @options.compose(
        options.common,
        options.model,
        options.constitution,
        options.limit,
        options.shard,
        options.reuse,
        retry,
        options.limits,
    )
    def run(
        run_dir: Path,
        config_file: Path | None,
        sets: tuple[str, ...],
        seed: int | None,
        as_json: bool,
        model: str | None,
        constitution_file: str | None,
        limit: int | None,
        shard: str | None,
        reuse_dir: Path | None,
        retry: bool,
        limits: Limits,
    ) -> int:
        wanted = {
            "model": model,
            "constitution": constitution_file,
            "limit": limit,
            "seed": seed,
            "shard": shard,
        }
        config = options.configured(run_dir, config_file, sets, {**wanted, "reuse": reuse_dir})
        return run_stage(config, name, as_json=as_json, skip_bad=False, retry=retry, limits=limits)

    return run


def run_stage(
    config: RunConfig,
    stage: str,
    *,
    as_json: bool,
    skip_bad: bool = False,
    retry: bool = False,
    limits: Limits | None = None,
    pairs_files: tuple[str, ...] = (),
) -> int:
    """Read the input, run the stage, print how its rows ended; returns the exit code.

    Raises `GateFailed` for labels that say nothing, when all is saved and printed.
    """
    from constitute.data.pairs import read_pairs
    from constitute.data.prompts import read_prompts
    from constitute.errors import EngineError, GateFailed
    from constitute.pipeline import run_stages
    from constitute.progress import open_progress
    from constitute.stages import stage_spec

    with open_progress(as_json) as progress:
        prompts = pairs = None
        if stage_spec(stage).reads == "prompt" and config.prompts is not None:
            prompts, bad = read_prompts(
                config.prompts, limit=config.limit, skip_bad=skip_bad, reading=config.read
            )
            _note_bad(progress, bad, config.prompts)
        if pairs_files:
            pairs, bad = read_pairs(pairs_files, limit=config.limit, skip_bad=skip_bad, reading=config.read)
            _note_bad(progress, bad, ", ".join(pairs_files))
        try:
            counts = run_stages(
                config, [stage], prompts=prompts, pairs=pairs, progress=progress, retry=retry, limits=limits
            )[stage]
        except EngineError as problem:
            raise EngineError(f"{problem}{_going_on(config)}") from problem
    found = _print_result(config, counts, as_json)
    # A shard may be too small to judge its labels by; the merged run is judged.
    if found is not None and config.shard is None:
        raise GateFailed(found.sentence)
    return ExitCode.ROWS_FAILED if counts.failed else ExitCode.OK


def _going_on(config: RunConfig) -> str:
    """How to go on where the model is gone; nothing where no answer was kept yet."""
    from constitute.store import Store

    with Store.open(config.run, readonly=True) as store:
        if store.empty():
            return ""
    return f"; every answer so far is kept, continue with: {shlex.join(['constitute', *sys.argv[1:]])}"


def _note_bad(progress: Progress, bad: list[Any], name: str) -> None:
    from constitute.data.rows import notes_on

    for sentence in notes_on(name, bad):
        progress.note(sentence)


def _print_result(config: RunConfig, counts: Counts, as_json: bool) -> LabelVerdict | None:
    """Print how the stage's rows ended, with the label card; returns the verdict on labels."""
    from constitute.cli.text import card_text, say, table
    from constitute.pipeline.cut import after_abstentions, after_failures
    from constitute.stages.card import card_of
    from constitute.stages.verdict import label_warnings, verdict
    from constitute.store import Store
    from constitute.store.manifest import way_on
    from constitute.text import grouped_reasons

    with Store.open(config.run, readonly=True) as store:
        every_reason = store.reasons(counts.stage)
        remedy = way_on(store, counts.stage)
        card = card_of(store) if counts.stage == "label" else None
    found = None if card is None else verdict(card)
    warned = [] if card is None else label_warnings(card)
    reasons = grouped_reasons(every_reason)
    if as_json:
        why = [{"status": status, "rows": rows, "reason": reason} for status, rows, reason in reasons]
        result = {"event": "result", **counts.model_dump(mode="json"), "reasons": why}
        result["label_card"] = None if card is None else card.model_dump(mode="json")
        result["verdict"] = None if found is None else found.model_dump(mode="json")
        result["warnings"] = warned
        click.echo(json.dumps(result))
        return found
    head = ("stage", "rows", "ok", "abstain", "failed", "done before", "asked", "from store")
    ended_as = (counts.ok, counts.abstain, counts.failed, counts.resumed, counts.asked, counts.reused)
    click.echo(table(head, [(counts.stage, counts.total, *ended_as)]))
    if reasons:
        click.echo("\n" + table(("status", "rows", "reason, for example"), reasons))
    if card is not None:
        click.echo("\n" + card_text(card))
    for sentence in warned:
        say(f"warning: {sentence}")
    if taken := after_abstentions(counts.stage, every_reason, _retrying):
        say(taken)
    if counts.failed:
        say(after_failures(counts.stage, every_reason, remedy, _retrying))
    elif found is None:
        say(_next_step(config, counts))
    return found


def _retrying(sets: Sequence[str]) -> str:
    """This command as it was typed, asking again with new settings; earlier values of those are left out."""
    keys = tuple(f"{text.split('=')[0]}=" for text in sets)
    words, kept = iter(sys.argv[1:]), []
    for word in words:
        if word == "--set":
            value = next(words, "")
            kept += [] if value.startswith(keys) else [word, value]
        elif word != "--retry-failed" and not word.startswith(tuple(f"--set={key}" for key in keys)):
            kept.append(word)
    more = [word for text in sets for word in ("--set", text)]
    return f"`{shlex.join(['constitute', *kept, '--retry-failed', *more])}`"


def _next_step(config: RunConfig, counts: Counts) -> str:
    run = shlex.quote(str(config.run))
    at = config.chain.index(counts.stage) + 1 if counts.stage in config.chain else len(config.chain)
    following = config.chain[at] if at < len(config.chain) else "export"
    given = "pocket/harmless" if config.model == "pocket" else "assistant"
    named = f" --constitution {given}" if config.constitution is None and following != "export" else ""
    pairs = " --set label.pairs=revision" if following == "label" and counts.stage == "revise" else ""
    return f"next: constitute {following} --run {run}{named}{pairs}"
