"""What a data stage ended with, for a person or as one event, and what to type next."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from constitute.config import RunConfig
    from constitute.pipeline import Counts
    from constitute.stages.card.records import LabelCard

    Reasons = Sequence[tuple[str, str, int]]


def print_result(config: RunConfig, counts: Counts, as_json: bool) -> str:
    """Print how the stage's rows ended, with the label card; returns why labels are not to be trained on."""
    from constitute.cli.text import say
    from constitute.data.reviews import reviewed_card
    from constitute.pipeline.cut import after_abstentions, after_failures
    from constitute.stages.verdict import stopped_by
    from constitute.store import Store
    from constitute.store.manifest import way_on

    with Store.open(config.run, readonly=True) as store:
        every_reason = store.reasons(counts.stage)
        remedy = way_on(store, counts.stage)
        card = reviewed_card(store) if counts.stage == "label" else None
    stopped = "" if card is None else stopped_by(card, config.gates)
    if as_json:
        click.echo(json.dumps(_result(config, counts, every_reason, card)))
        return stopped
    _print_counts(counts, every_reason, card)
    if taken := after_abstentions(counts.stage, every_reason, _retrying):
        say(taken)
    if counts.failed:
        say(after_failures(counts.stage, every_reason, remedy, _retrying))
    elif not stopped:
        say(_next_step(config, counts))
    return stopped


def _result(
    config: RunConfig, counts: Counts, every_reason: Reasons, card: LabelCard | None
) -> dict[str, Any]:
    """The result as one event."""
    from constitute.stages.verdict import label_warnings, unmet, verdict
    from constitute.text import grouped_reasons

    reasons = grouped_reasons(every_reason)
    why = [{"status": status, "rows": rows, "reason": reason} for status, rows, reason in reasons]
    result: dict[str, Any] = {"event": "result", **counts.model_dump(mode="json"), "reasons": why}
    found = None if card is None else verdict(card)
    result["label_card"] = None if card is None else card.model_dump(mode="json")
    result["verdict"] = None if found is None else found.model_dump(mode="json")
    result["unmet"] = [] if card is None else unmet(card, config.gates)
    result["warnings"] = [] if card is None else label_warnings(card)
    return result


def _print_counts(counts: Counts, every_reason: Reasons, card: LabelCard | None) -> None:
    """The tables, and warnings of labels."""
    from constitute.cli.text import card_text, say, table
    from constitute.stages.verdict import label_warnings
    from constitute.text import grouped_reasons

    head = ("stage", "rows", "ok", "abstain", "failed", "done before", "asked", "from store")
    ended_as = (counts.ok, counts.abstain, counts.failed, counts.resumed, counts.asked, counts.reused)
    click.echo(table(head, [(counts.stage, counts.total, *ended_as)]))
    if reasons := grouped_reasons(every_reason):
        click.echo("\n" + table(("status", "rows", "reason, for example"), reasons))
    if card is not None:
        click.echo("\n" + card_text(card))
        for sentence in label_warnings(card):
            say(f"warning: {sentence}")


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
