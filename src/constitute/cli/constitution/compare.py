"""`constitute constitution compare`: the same drafts revised under two constitutions, and judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from constitute.cli import options

if TYPE_CHECKING:
    from constitute.editing.compare.figures import Contest, Contests
    from constitute.editing.compare.run import Compared


@options.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@options.compose(options.model, options.prompts)
@click.option("--judge", help="Another model that compares in the model's place.")
@options.compose(
    options.limit,
    options.cache,
    options.config_file,
    options.sets,
    options.seed,
    options.as_json,
    options.debug,
)
def compare(
    first: str,
    second: str,
    model: str | None,
    prompts_file: str | None,
    judge: str | None,
    limit: int | None,
    cache_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
) -> int:
    """Revise the same drafts under constitutions A and B, and compare the revisions, both orders.

    Each prompt (--prompts, else the constitutions' probes) gets one draft. Judges are A, B, and the model
    asked which reply is better overall. Revisions with the same words are ties.

    \b
    Examples:
      constitute constitution compare assistant my.yaml --model smollm2 --prompts prompts.jsonl
      constitute constitution compare old.yaml new.yaml --model smollm2 --set label.principles=all
    """
    from constitute.cli.text import coloured
    from constitute.constitution.read import load_configured
    from constitute.editing.compare.run import compare_constitutions, prompts_for
    from constitute.errors import ExitCode
    from constitute.progress import open_progress

    wanted = {"model": model, "judge": judge, "prompts": prompts_file, "limit": limit, "seed": seed}
    config = options.configured(cache_dir, config_file, sets, wanted)
    a, b = (load_configured(config, name) for name in (first, second))
    prompts = prompts_for(config, a, b)
    with open_progress(as_json) as progress:
        done = compare_constitutions(config, a, b, prompts, progress=progress)
    if as_json:
        click.echo(json.dumps(_result(done), ensure_ascii=False))
    else:
        click.echo(_text(done, (a.name, b.name), coloured()))
    failed = any(status == "failed" for _, status, *_ in done.figures.problems)
    return ExitCode.ROWS_FAILED if failed else ExitCode.OK


def _result(done: Compared) -> dict[str, Any]:
    rows = {row.id: row for row in done.rows}
    figures = done.figures.model_dump(mode="json")
    for side in ("for_a", "for_b"):
        figures[side] = [
            rows[name].model_dump(mode="json") | {"favour": rows[name].favour} for name in figures[side]
        ]
    return {"event": "result", "asked": done.asked, "reused": done.reused, **figures}


def _text(done: Compared, names: tuple[str, str], colour: bool) -> str:
    from constitute.cli.text import harmless, table

    figures = done.figures
    lines = [
        f"A: {names[0]}, B: {names[1]}",
        f"{figures.prompts} prompts, {figures.compared} with both revisions; {figures.same} of these have "
        f"the same words, {figures.differ.text()} differ",
    ]
    if figures.words is not None:
        words = (
            f"{name} {count:.1f}" for name, count in zip(("draft", "A", "B"), figures.words, strict=True)
        )
        lines.append(f"words, mean: {', '.join(words)}")
        changed = (f"{side} {share.text()}" for side, share in zip("AB", figures.changed, strict=True))
        lines.append(f"revisions that differ from the draft: {', '.join(changed)}")
    head = ("judge", "B over A", "for B", "for A", "ties", "order flips", "P(shown first)")
    rows = [
        (s.judge, s.win.text(), s.for_b, s.for_a, s.ties, s.flips.text(), s.p_first)
        for s in figures.standings
    ]
    lines.append("shares with their 95 % intervals:")
    blocks = ["\n".join(map(harmless, lines)), table(head, rows)]
    if figures.problems:
        blocks.append(table(("at", "status", "reason", "prompts"), figures.problems))
    blocks += _examples(figures, {row.id: row for row in done.rows}, colour)
    return "\n\n".join([*blocks, f"{done.asked} questions asked, {done.reused} answered from the store"])


def _examples(figures: Contests, rows: dict[str, Contest], colour: bool) -> list[str]:
    return [
        "\n".join([f"most in favour of {side}:", *(_example(rows[name], colour) for name in names)])
        for side, names in (("B", figures.for_b), ("A", figures.for_a))
        if names
    ]


def _example(row: Contest, colour: bool) -> str:
    """A pair as the words that lead from the revision under A to that under B."""
    from constitute.cli.text import harmless
    from constitute.editing.words import ansi, brief, plain, word_diff
    from constitute.strict_yaml import shorten

    judged = ", ".join(f"{judge} {each.p_b:.3f}" for judge, each in row.judgements.items())
    asked = shorten(harmless(row.prompt.messages[-1].content), 100)
    runs = brief(word_diff(harmless(row.a or ""), harmless(row.b or "")))
    words = (ansi if colour else plain)(runs).replace("\n", "\n    ")
    return f"{harmless(row.id)}: P(B) by judge {judged}\n  prompt: {asked}\n  A to B: {words}"
