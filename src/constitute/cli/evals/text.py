"""What the commands of `constitute evals` print."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from constitute.cli.text import counted_reasons, harmless, say, table

if TYPE_CHECKING:
    from constitute.config import RunConfig
    from constitute.evals.compare import Paired
    from constitute.evals.controls import Controls
    from constitute.evals.run import SetResult
    from constitute.evals.sets.spec import SetSpec
    from constitute.evals.write import WrittenSet


def print_sets(specs: Mapping[str, SetSpec], as_json: bool) -> None:
    """The public sets, one a line."""
    if as_json:
        for name, spec in specs.items():
            click.echo(json.dumps({"event": "result", "set": name, **spec.model_dump(mode="json")}))
        return
    rows = [(name, spec.title, spec.metric or "share", spec.source) for name, spec in specs.items()]
    click.echo(table(("set", "what", "figures", "source"), rows))


def print_results(results: Sequence[SetResult], config: RunConfig, as_json: bool) -> None:
    """The scores of each set, then its other figures."""
    if as_json:
        for one in results:
            click.echo(json.dumps({"event": "result", **one.model_dump(mode="json", exclude={"scores"})}))
        return
    rows = [
        (
            one.set,
            one.policy,
            one.share.text(),
            one.p_matching.text(),
            "" if one.p_raw is None else one.p_raw.text(),
            one.mass,
            "" if one.thin is None else one.thin.text(),
            counted_reasons(one.unparsed),
        )
        for one in results
    ]
    head = ("set", "policy", "share matching", "mean P(matching)", "not renormalised", "mass", "thin")
    click.echo(table((*head, "no score"), rows))
    _print_figures(results)
    if results:
        hint = f"constitute evals compare {results[0].policy} OTHER --run {config.run}"
        click.echo(f"next: score another policy, then {hint}", err=True)


def print_rewarded(results: Sequence[SetResult], config: RunConfig, as_json: bool) -> None:
    """Accuracy of a reward model on each set, then its other figures."""
    if as_json:
        for one in results:
            click.echo(json.dumps({"event": "result", **one.model_dump(mode="json", exclude={"scores"})}))
        return
    rows = [
        (one.set, one.policy, one.share.text(), one.p_matching.text(), counted_reasons(one.unparsed))
        for one in results
    ]
    click.echo(table(("set", "reward model", "accuracy", "mean P(right)", "no score"), rows))
    _print_figures(results)
    hint = f"constitute evals compare {results[0].policy} OTHER --run {config.run}"
    click.echo(f"next: score another reward model, then {hint}", err=True)


def _print_figures(results: Sequence[SetResult]) -> None:
    more = [
        (one.set, one.policy, figure, estimate.text())
        for one in results
        for figure, estimate in (*one.figures.items(), *one.parts.items())
    ]
    if more:
        click.echo()
        click.echo(table(("set", "policy", "figure", "value"), more))


def print_written(written: Sequence[WrittenSet], config: RunConfig, as_json: bool) -> None:
    from constitute.evals.families import family_spec
    from constitute.evals.items import evals_dir

    if as_json:
        for one in written:
            record = one.model_dump(mode="json", exclude={"items", "settings"})
            click.echo(json.dumps({"event": "result", **record, "kept": len(one.items)}))
        return
    rows = [
        (
            one.name,
            f"{one.family}: {family_spec(one.family).about}",
            one.candidates,
            one.counts["abstain"],
            one.counts["failed"],
            counted_reasons(one.dropped),
            _kept(one),
        )
        for one in written
    ]
    click.echo(table(("set", "family", "written", "abstain", "failed", "dropped", "kept"), rows))
    for one in written:
        if one.reasons:
            click.echo(harmless(f"{one.name}: no item from {counted_reasons(one.reasons)}"), err=True)
        if one.controls:
            click.echo(harmless(f"{one.name}: {_controls(one.controls)}"), err=True)
        click.echo(f"wrote {evals_dir(config.run) / one.name}.jsonl", err=True)
    for one in written:
        if one.too_few:
            say(f"constitute: {one.too_few}", red=True)
    click.echo(f"next: constitute evals gate --run {config.run} --judge MODEL, or", err=True)
    click.echo(f"next: constitute evals run --run {config.run} --model {config.model}", err=True)


def _kept(one: WrittenSet) -> str:
    controls = 0 if one.controls is None else one.controls.kept
    return f"{len(one.items) - controls}" + (f" and {controls} controls" if controls else "")


def _controls(found: Controls) -> str:
    """How many controls there are, and what became of the other candidates."""
    lost = counted_reasons({**found.reasons, **found.dropped})
    source = ", ".join(found.constitutions)
    return f"{found.kept} controls of {found.candidates} candidates from {source}; left out: {lost or 'none'}"


def print_compared(compared: Sequence[Paired], as_json: bool) -> None:
    """A row a comparison with the first policy, whole sets before their parts; then a sentence each."""
    if as_json:
        for one in compared:
            record = {"event": "result", **one.model_dump(mode="json"), "sentence": one.sentence}
            click.echo(json.dumps(record))
        return
    first, others = compared[0].first, list(dict.fromkeys(one.second for one in compared))
    several = len(others) > 1
    rows = [
        (
            one.where,
            *((one.second,) if several else ()),
            one.share_first,
            one.share_second,
            one.share.text(),
            one.p_matching.text(),
            one.only_first,
            one.only_second,
            f"{one.p:.2g}",
            f"{one.p_holm:.2g}",
            one.n_left_out,
        )
        for one in compared
    ]
    names = ("policy", first, "policy's share") if several else (first, others[0])
    only = (f"matches for {first} only", "for the policy only" if several else f"for {others[0]} only")
    head = ("set", *names, "change in share matching", "change in mean P(matching)", *only)
    click.echo(table((*head, "p", "p (Holm)", "items left out"), rows))
    click.echo()
    for one in compared:
        who = f" ({one.second})" if several and not one.sentence.startswith(one.second) else ""
        click.echo(harmless(f"{one.where}{who}: {one.sentence}"))
