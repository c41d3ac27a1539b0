"""`constitute evals review`: people say, blind, which answer of an eval item shows the behaviour."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from constitute.cli import options

if TYPE_CHECKING:
    from constitute.config import RunConfig
    from constitute.evals.gating.sets import Ungated


@options.command()
@options.compose(options.run_dir, options.config_file, options.sets, options.constitution)
@options.compose(options.as_json, options.debug)
@click.option("--annotator", help="Who answers; the login name if absent.")
@click.option("-n", "--n", "count", type=click.IntRange(1), help="Items under review; 50 if absent.")
@click.option("--report", is_flag=True, help="Say what the answers come to; ask nothing.")
@click.option("--behavior", help="What the items of FILES are about, as a verb phrase.")
@click.argument("sets_or_files", metavar="[SET|FILE]...", nargs=-1, type=click.Path(path_type=Path))
def review(
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    constitution_file: str | None,
    as_json: bool,
    annotator: str | None,
    count: int | None,
    report: bool,
    behavior: str | None,
    sets_or_files: tuple[Path, ...],
) -> None:
    """Show items without label and confidence; people say which answer shows the behaviour, or none.

    Without a SET, all that the run has written, as it was before the gate. Answers are kept in
    RUN/evals/reviews, one file per annotator; the same command goes on where it stopped. `evals gate` then
    measures its judges against the majority, and the datasheet says so.

    \b
    Examples:
      constitute evals review --annotator ada -n 30
      constitute evals review --report
    """
    from constitute.cli.review import review_session
    from constitute.cli.text import say
    from constitute.data.reviews import annotating, read_reviews, require_name
    from constitute.evals.gating.sets import Asking, ungated_sets, words_about
    from constitute.evals.items import evals_dir
    from constitute.evals.reviewing import under_review
    from constitute.review.showing import Showing, showings

    config = options.configured(run_dir, config_file, sets, {"constitution": constitution_file})
    found = ungated_sets(run_dir, sets_or_files, Asking(behavior=behavior, out=evals_dir(run_dir)))
    if report:
        _print_report(config, found, as_json)
        return
    import getpass

    name = require_name(annotator or getpass.getuser())
    folder = evals_dir(run_dir)
    with annotating(folder, name):
        items = under_review(
            run_dir, [(one.name, one.items, words_about(one, config)) for one in found], count
        )
        known = {(one.item, one.again) for one in read_reviews(folder) if one.annotator == name}
        # The order of the answers is that of the item: it says nothing, and none of them stands last.
        shown = [Showing(one.item, "".join(sorted(one.order))) for one in showings(items, name)]
        done = review_session(folder, name, "Which one?", shown, known)
    say(
        f"{name}: {done} of {len(shown)} answered; `constitute evals review --report --run {run_dir}` says "
        "what they come to"
    )


def _print_report(config: RunConfig, found: Sequence[Ungated], as_json: bool) -> None:
    from constitute.cli.review import review_tables
    from constitute.cli.text import table
    from constitute.data.reviews import read_items, read_reviews
    from constitute.errors import UsageError
    from constitute.evals.gating.people import people_figures
    from constitute.evals.items import evals_dir
    from constitute.review.figures import figures_of

    folder = evals_dir(config.run)
    if not (items := read_items(folder)):
        raise UsageError(f"{config.run} has no reviews of items; make some with `constitute evals review`")
    between = figures_of(items, read_reviews(folder))
    against = people_figures(config, found)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "event": "result",
                    "people": between.model_dump(mode="json"),
                    "sets": [one.model_dump(mode="json") for one in against],
                }
            )
        )
        return
    click.echo(review_tables(between, "item"))
    rows = [
        (one.set, who, one.reviewed, kappa.text())
        for one in against
        for who, kappa in (("written labels", one.written), *one.judges.items())
    ]
    click.echo("\n" + table(("set", "people against", "items", "kappa"), rows))
