"""`constitute status` and `constitute show`: what a run holds, and one row's whole chain."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click

from constitute.cli import options


@options.command()
@options.compose(options.run_dir, options.as_json, options.debug)
def status(run_dir: Path, as_json: bool) -> None:
    """Count a run's rows by stage and outcome, with the commonest reasons, and list what was trained.

    \b
    Examples:
      constitute status --run run
      constitute status --run my-run --json
    """
    from constitute.cli.text import card_text, say, table
    from constitute.data.reviews import reviewed_card
    from constitute.stages.verdict import label_warnings, verdict
    from constitute.store import Store
    from constitute.store.unfinished import unfinished
    from constitute.text import grouped_reasons

    with Store.open(run_dir, readonly=True) as store:
        early = unfinished(store)
        stages = dict.fromkeys([*store.stages(), *(each.stage for each in early)])
        counts = {stage: store.counts(stage) for stage in stages}
        reasons = {stage: grouped_reasons(store.reasons(stage)) for stage in counts}
        card = reviewed_card(store) if "label" in counts else None
    found = None if card is None else verdict(card)
    warned = [] if card is None else label_warnings(card)
    if as_json:
        for stage, ended in counts.items():
            why = [{"status": s, "rows": rows, "reason": reason} for s, rows, reason in reasons[stage]]
            line = {"stage": stage, "rows": sum(ended.values()), **ended, "reasons": why}
            stopped = next((each for each in early if each.stage == stage), None)
            line["unfinished"] = None if stopped is None else stopped.model_dump(mode="json")
            if stage == "label" and card is not None:
                line["label_card"] = card.model_dump(mode="json")
                line["verdict"] = None if found is None else found.model_dump(mode="json")
                line["warnings"] = warned
            click.echo(json.dumps(line))
        _show_trainings(run_dir, as_json)
        return
    rows = [
        (stage, sum(ended.values()), ended["ok"], ended["abstain"], ended["failed"])
        for stage, ended in counts.items()
    ]
    click.echo(table(("stage", "rows", "ok", "abstain", "failed"), rows))
    listed = [(stage, *reason) for stage, stage_reasons in reasons.items() for reason in stage_reasons]
    if listed:
        click.echo("\n" + table(("stage", "status", "rows", "reason, for example"), listed))
    if card is not None and card.pairs:
        click.echo("\n" + card_text(card))
    _show_trainings(run_dir, as_json)
    for sentence in warned:
        say(f"warning: {sentence}")
    for each in early:
        say(each.sentence, red=True)
    if found is not None:
        say(found.sentence, red=True)


def _show_trainings(run_dir: Path, as_json: bool) -> None:
    """Print which trainings of the run ended, and what is wrong with their results; nothing without any."""
    from constitute.cli.text import say, table
    from constitute.report.read import TRAINERS, trainings
    from constitute.train.common.artefact import unfinished

    found = {one.name: one for one in trainings(run_dir)}
    begun = [name for name in TRAINERS if name not in found and unfinished(run_dir / name)]
    if as_json:
        for one in found.values():
            line = {"training": one.name, "finished": bool(one.summary), "summary": one.summary}
            click.echo(json.dumps(line))
        for name in begun:
            click.echo(json.dumps({"training": name, "finished": False, "summary": {}}))
        return
    ends = [(one.name, "finished" if one.summary else "not finished") for one in found.values()]
    if ends or begun:
        click.echo("\n" + table(("training", "state"), [*ends, *((name, "not finished") for name in begun)]))
    for one in found.values():
        if one.verdict:
            say(one.verdict, red=True)


@options.command()
@click.argument("row_id", metavar="[ID]", required=False)
@options.compose(options.run_dir, options.as_json, options.debug)
def show(row_id: str | None, run_dir: Path, as_json: bool) -> None:
    """Print one row's whole chain: prompt, response, critiques, revisions, label.

    ID is a prompt's, a response's or a pair's id, or the beginning of one; without it, the first ids are
    listed by stage and by how their rows ended.

    \b
    Examples:
      constitute show
      constitute show p1
      constitute show p1/0 --run my-run --json
    """
    from constitute.cli.text import chain_text
    from constitute.store import Store, chain_of

    if row_id is None:
        _list_ids(run_dir, as_json)
        return
    with Store.open(run_dir, readonly=True) as store:
        rows = chain_of(store, row_id)
        if as_json:
            for stage, outcome in rows:
                attempts = [a for s, *a in store.attempts_of(outcome.row_id) if s == stage]
                line = {"stage": stage, **outcome.model_dump(mode="json"), "attempts": attempts}
                click.echo(json.dumps(line))
            return
    click.echo(chain_text(rows))


def _list_ids(run_dir: Path, as_json: bool) -> None:
    """Print the first ids of each stage and outcome."""
    from constitute.cli.text import say, table
    from constitute.store import Store, first_ids

    with Store.open(run_dir, readonly=True) as store:
        found = first_ids(store)
    if as_json:
        for stage, status, rows, ids in found:
            click.echo(json.dumps({"stage": stage, "status": status, "rows": rows, "first": ids}))
        return
    listed = [(stage, status, rows, ", ".join(ids)) for stage, status, rows, ids in found]
    click.echo(table(("stage", "status", "rows", "first ids"), listed))
    say(f"next: constitute show ID --run {shlex.quote(str(run_dir))}")
