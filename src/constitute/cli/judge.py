"""`constitute judge`: which method and layout of questions a model can label with, if any."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from constitute.cli import options

if TYPE_CHECKING:
    from constitute.judge.figures import JudgeFigures
    from constitute.judge.run import Comparing

DEFAULT_PAIRS = 100


@options.command()
@click.option(
    "--run",
    "run_dir",
    type=click.Path(path_type=Path),
    default=Path("judge-run"),
    show_default=True,
    help="Directory that keeps the answers; the same command goes on from them.",
)
@options.compose(options.config_file, options.sets, options.seed, options.as_json, options.debug)
@options.compose(options.model, options.constitution)
@click.option(
    "--pairs",
    "pairs_files",
    multiple=True,
    help="Pairs that people judged: rows with chosen and rejected, or a, b and human; several files add up. "
    "The constitution's own examples if absent.",
)
@click.option(
    "--methods",
    multiple=True,
    callback=options.names,
    metavar="NAME[,NAME]",
    help="Label methods, such as choice; may be repeated. All there are if absent.",
)
@click.option(
    "--layouts",
    multiple=True,
    callback=options.names,
    metavar="NAME[,NAME]",
    help="Layouts of the question: shared, paper; may be repeated. Both if absent.",
)
@click.option("-n", "--n", "count", type=click.IntRange(1), default=DEFAULT_PAIRS, show_default=True,
              help="Pairs to ask about, drawn by --seed where there are more.")  # fmt: skip
@options.skip_bad
def judge(
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    model: str | None,
    constitution_file: str | None,
    pairs_files: tuple[str, ...],
    methods: list[str],
    layouts: list[str],
    count: int,
    skip_bad: bool,
) -> None:
    """Compare ways to label with a model on pairs that people judged, and say which to use.

    Measures agreement with people, order flips, label mass, calibration, what length does, and what has no
    label. The one whose agreement has the greatest lower bound is advised; exit code 4 says that none tells
    good answers from bad.

    \b
    Examples:
      constitute judge --model Qwen/Qwen3-0.6B --constitution assistant --pairs hh.jsonl
      constitute judge --model http://localhost:8000 --constitution c.yaml --methods choice -n 200
    """
    from constitute.data.pairs import read_pairs
    from constitute.data.records import notes_on
    from constitute.judge.run import compare_methods, questions, require_advice
    from constitute.progress import open_progress
    from constitute.stages.labels.candidates import candidates, every_method

    wanted = {"model": model, "constitution": constitution_file, "seed": seed, "run": run_dir}
    config = options.settled(run_dir, config_file, sets, wanted)
    tried = candidates(methods or every_method(), layouts or None)
    with open_progress(as_json) as progress:
        pairs = None
        if pairs_files:
            pairs, bad = read_pairs(pairs_files, skip_bad=skip_bad, reading=config.read)
            for sentence in notes_on(", ".join(pairs_files), bad):
                progress.note(sentence)
        found = compare_methods(config, questions(config, pairs, count), tried, progress=progress)
    _print(found, as_json)
    if found.advice.method is not None and not as_json:
        click.echo(f"next: {_following(found, run_dir, pairs_files, skip_bad)}", err=True)
    require_advice(found)


def _following(found: Comparing, run_dir: Path, pairs_files: tuple[str, ...], skip_bad: bool) -> str:
    """The command that labels as advised, in a run of its own, with the model and settings of this one."""
    from constitute.store.manifest import CONFIG_FILE

    same = ["--config", str(run_dir / CONFIG_FILE), "--run", f"{run_dir}-labels"]
    advised = {"label.method": found.advice.method, "label.layout": found.advice.layout}
    sets = [word for key, value in advised.items() if value for word in ("--set", f"{key}={value}")]
    given = [word for file in pairs_files for word in ("--pairs", file)]
    given += ["--skip-bad"] if skip_bad and given else []
    label = shlex.join(["constitute", "label", *same, *given, *sets, "--reuse", str(run_dir)])
    if given:
        return label
    return f"{shlex.join(['constitute', 'generate', *same])} --prompts FILE -n 2, then {label}"


def _print(found: Comparing, as_json: bool) -> None:
    from constitute.cli.text import say, table

    if as_json:
        click.echo(json.dumps({"event": "result", **found.model_dump(mode="json")}))
        return
    click.echo(
        f"{found.pairs} pairs ({found.source}), {found.judged} of them judged by people{_longer(found)}\n"
    )
    tables = (
        (_judgement, ("method", "pairs", "agrees with people", "kappa", "Brier score", "calibration error")),
        (
            _behaviour,
            ("method", "order flips", "mass", "longer wins", "longer neutral copy wins", "steady on copies"),
        ),
        (_cost, ("method", "no label", "abstained", "failed", "censored", "requests", "seconds")),
    )
    click.echo("\n\n".join(table(head, [row(each) for each in found.figures]) for row, head in tables))
    for each in found.figures:
        if each.verdict is not None:
            say(f"{each.name}: {each.verdict.seen}", red=True)
    if found.advice.method is not None:
        say(found.advice.sentence)


def _longer(found: Comparing) -> str:
    """How often people prefer the longer answer, where they judged any."""
    figures = [each.card.longer_human for each in found.figures if each.card.longer_human.n]
    return f", who prefer the longer answer in {figures[0].text(2)}" if figures else ""


def _judgement(each: JudgeFigures) -> tuple[object, ...]:
    agreement = each.agreement
    accuracy = "-" if agreement is None else agreement.accuracy.text(2)
    kappa = "-" if agreement is None else agreement.kappa.text(2)
    return each.name, each.card.pairs, accuracy, kappa, each.brier.text(2), each.ece.text(2)


def _behaviour(each: JudgeFigures) -> tuple[object, ...]:
    figures = (each.flips, each.mass, each.card.longer, each.longer_neutral, each.steady)
    return each.name, *(figure.text(2) for figure in figures)


def _cost(each: JudgeFigures) -> tuple[object, ...]:
    card = each.card
    shares = (each.no_label.text(2), card.abstained, card.failed, each.censored.text(2))
    return each.name, *shares, each.requests, f"{each.seconds:.1f}"
