"""What the commands of `constitute evals` print."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from constitute.cli.text import counted_reasons, table

if TYPE_CHECKING:
    from constitute.config import RunConfig
    from constitute.evals.run import SetResult
    from constitute.evals.sets.spec import SetSpec


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
    more = [
        (one.set, one.policy, figure, estimate.text())
        for one in results
        for figure, estimate in (*one.figures.items(), *one.parts.items())
    ]
    if more:
        click.echo()
        click.echo(table(("set", "policy", "figure", "value"), more))
    if results:
        hint = f"constitute evals compare {results[0].policy} OTHER --run {config.run}"
        click.echo(f"next: score another policy, then {hint}", err=True)
