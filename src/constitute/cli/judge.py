"""`constitute judge`: which method and layout of questions a model can label with, if any."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from constitute.cli import options

if TYPE_CHECKING:
    from constitute.judge.figures import JudgeFigures
    from constitute.judge.run import Comparing

DEFAULT_PAIRS = 100


def _names(ctx: click.Context, param: click.Parameter, value: str | None) -> list[str] | None:
    """The names in `a,b`, each once."""
    return None if value is None else list(dict.fromkeys(name.strip() for name in value.split(",")))


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
    help="Pairs that people judged: rows with chosen and rejected, or a, b and human. The constitution's own "
    "examples if absent.",
)
@click.option("--methods", callback=_names, help="Label methods, such as choice; all there are if absent.")
@click.option("--layouts", callback=_names, help="Layouts of the question: shared, paper; both if absent.")
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
    methods: list[str] | None,
    layouts: list[str] | None,
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
    from constitute.judge.run import compare_methods, questions, require_advice
    from constitute.progress import open_progress
    from constitute.stages.labels import LABEL_METHODS
    from constitute.stages.labels.candidates import candidates

    wanted = {"model": model, "constitution": constitution_file, "seed": seed, "run": run_dir}
    config = options.settled(run_dir, config_file, sets, wanted)
    tried = candidates(methods or list(LABEL_METHODS), layouts)
    with open_progress(as_json) as progress:
        pairs = None
        if pairs_files:
            pairs, bad = read_pairs(pairs_files, skip_bad=skip_bad)
            if bad:
                progress.note(f"skipped {len(bad)} bad lines, the first at {bad[0].where}: {bad[0].reason}")
        found = compare_methods(config, questions(config, pairs, count), tried, progress=progress)
    _print(found, run_dir, as_json)
    require_advice(found)


def _print(found: Comparing, run_dir: Path, as_json: bool) -> None:
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
        layout = f" --set label.layout={found.advice.layout}" if found.advice.layout else ""
        say(found.advice.sentence)
        say(f"next: constitute label --set label.method={found.advice.method}{layout} --reuse {run_dir}")


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
