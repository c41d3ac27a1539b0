"""`constitute review`: people choose between answers, blind, and what their choices come to."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from constitute.cli import options
from constitute.review.sample import SAMPLES

if TYPE_CHECKING:
    from constitute.data.reviews import Review
    from constitute.review.figures import AnnotatorFigures, ReviewFigures
    from constitute.review.showing import Showing

_WIDEST = 100
_KEYS = "= tie · s skip · b back · p pager · q quit"
file = click.Path(path_type=Path, dir_okay=False)


@options.group()
def review() -> None:
    """Let people choose between answers, blind, and measure how far they and the judge agree.

    Choices are kept in RUN/reviews, one file per annotator. Nothing shown says what wrote an answer or what
    the judge said, and the order of the answers is drawn anew for each annotator.

    \b
    Examples:
      constitute review pairs --run run --annotator ada
      constitute review report --run run
    """


@review.command()
@options.run_dir
@click.option("--annotator", help="Who chooses; the login name if absent.")
@click.option(
    "--pairs", "pairs_files", multiple=True, help="Pairs of files instead of the run's labelled ones."
)
@click.option(
    "-n", "--n", "count", type=click.IntRange(1), help="Pairs under review; 50 if absent, and more later."
)
@click.option(
    "--sample",
    type=click.Choice(list(SAMPLES)),
    default="random",
    show_default=True,
    help="Which labelled pairs: at random, the smallest margins, votes that change with the order, "
    "principles that disagree.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the sample.")
@click.option(
    "--repeat", type=click.IntRange(0), default=0, help="Show so many again at the end, to see who is steady."
)
@click.option("--question", default="Which answer is better?", show_default=True, help="What is asked.")
@options.skip_bad
@options.debug
def pairs(
    run_dir: Path,
    annotator: str | None,
    pairs_files: tuple[str, ...],
    count: int | None,
    sample: str,
    seed: int,
    repeat: int,
    question: str,
    skip_bad: bool,
) -> None:
    """Show pairs one after another and keep what the annotator chooses.

    Every choice is on disk before the next pair is shown; the same command goes on where it stopped. All
    annotators of a run see the same pairs. Where the input is no terminal, keys are read from its lines.

    \b
    Examples:
      constitute review pairs --run run --annotator ada -n 100 --repeat 10
      constitute review pairs --run hh-review --pairs hh.jsonl.gz --annotator ada
    """
    import getpass

    from constitute.cli.text import say
    from constitute.data.pairs import read_pairs
    from constitute.data.records import notes_on
    from constitute.data.reviews import Item, annotating, read_reviews, require_name
    from constitute.review.sample import Drawing, draw_labelled, draw_pairs, labelled_pairs, prepare
    from constitute.review.showing import showings
    from constitute.store import Store

    def draw(drawing: Drawing, n: int) -> list[Item]:
        if pairs_files:
            found, bad = read_pairs(pairs_files, skip_bad=skip_bad)
            for sentence in notes_on(", ".join(pairs_files), bad):
                say(sentence)
            return draw_pairs(found, drawing, n)
        with Store.open(run_dir, create=False, readonly=True) as store:
            return draw_labelled(labelled_pairs(store), drawing, n)

    name = require_name(annotator or getpass.getuser())
    if not pairs_files:
        # A wrong --run is refused before a folder is made for it.
        Store.open(run_dir, create=False, readonly=True).close()
    with annotating(run_dir, name):
        wanted = Drawing(sample=sample, seed=seed, question=question)
        drawing, items = prepare(run_dir, wanted, count, draw)
        known = {(one.item, one.again) for one in read_reviews(run_dir) if one.annotator == name}
        shown = showings(items, name, repeat)
        done = review_session(run_dir, name, drawing.question, shown, known)
    say(
        f"{name}: {done} of {len(shown)} answered; `constitute review report --run {run_dir}` says what they "
        "come to"
    )


def review_session(
    run_dir: Path, annotator: str, question: str, shown: list[Showing], known: set[tuple[str, bool]]
) -> int:
    """Ask about what was not answered yet until the annotator quits; returns how many are answered."""
    from constitute.data.reviews import add_reviews

    place = next((at for at, one in enumerate(shown) if (one.item.id, one.again) not in known), len(shown))
    while place < len(shown):
        one = shown[place]
        text = _text_of(one, f"{place + 1} of {len(shown)}")
        click.echo(text)
        start = time.monotonic()
        key = _ask(question, one.keys, text)
        if key == "q":
            break
        if key == "b":
            place = max(0, place - 1)
            continue
        add_reviews(run_dir, [one.review(annotator, key, time.monotonic() - start)])
        known.add((one.item.id, one.again))
        place += 1
        while place < len(shown) and (shown[place].item.id, shown[place].again) in known:
            place += 1
    return sum((one.item.id, one.again) in known for one in shown)


def _ask(question: str, keys: str, text: str) -> str:
    """The key pressed, one of `keys`, b or q; the end of the input quits."""
    numbers = " · ".join(key for key in keys if key.isdecimal())
    while True:
        click.echo(f"{question}  {numbers} · {_KEYS} > ", nl=False)
        if sys.stdin.isatty():
            key = click.getchar()
            click.echo(key if key.isprintable() else "")
        else:
            line = sys.stdin.readline()
            key = line.strip() if line else "q"
            click.echo()
        if key in ("\x03", "\x04"):
            return "q"
        if key == "p":
            click.echo_via_pager(text)
        elif key and key in f"{keys}bq":
            return key
        elif key.strip():
            click.echo(f"{key!r} is no answer.")


def _text_of(one: Showing, place: str) -> str:
    """The conversation and the answers, wrapped to the terminal; nothing says where they come from."""
    width = min(_WIDEST, shutil.get_terminal_size().columns)
    parts = [f"{'─' * 3} {place} {'─' * max(0, width - len(place) - 5)}"]
    parts += [_block(message.role, message.content, width) for message in one.item.messages]
    parts += [_block(f"ANSWER {number}", text, width) for number, text in enumerate(one.shown, 1)]
    return "\n".join(parts)


def _block(name: str, text: str, width: int) -> str:
    from constitute.text import harmless

    lines = [
        part
        for line in harmless(text).split("\n")
        for part in textwrap.wrap(line, max(20, width - 2), replace_whitespace=False) or [""]
    ]
    return "\n".join([name, *(f"  {line}".rstrip() for line in lines), ""])


@review.command()
@options.run_dir
@options.as_json
@options.debug
def report(run_dir: Path, as_json: bool) -> None:
    """Say how far annotators agree with one another, with themselves and with the judge.

    Kappa is Cohen's, alpha Krippendorff's for any number of annotators; ties count as a choice there. The
    judge is measured on the pairs that neither side left undecided.

    \b
    Examples:
      constitute review report
      constitute review report --run run --json
    """
    from constitute.data.reviews import read_items, read_reviews
    from constitute.errors import UsageError
    from constitute.review.figures import figures_of
    from constitute.review.sample import labelled_pairs
    from constitute.store import FILE_NAME, Store

    items = read_items(run_dir)
    if not items:
        raise UsageError(
            f"{run_dir} has no reviews; make some with `constitute review pairs --run {run_dir}`"
        )
    labels: dict[str, float] = {}
    if (run_dir / FILE_NAME).exists():
        wanted = {item.id for item in items}
        with Store.open(run_dir, create=False, readonly=True) as store:
            labels = {pair.id: pair.label.p_a for pair in labelled_pairs(store) if pair.id in wanted}
    found = figures_of(items, read_reviews(run_dir), labels)
    click.echo(json.dumps(found.model_dump(mode="json")) if as_json else review_tables(found))


def review_tables(found: ReviewFigures, noun: str = "pair") -> str:
    from constitute.cli.text import counted, table

    head = f"{counted(found.items, noun)} under review, {found.reviewed} answered by somebody"
    parts = [head]
    parts.append(
        table(
            ("annotator", "answers", "ties", "skips", "first chosen", "longer chosen", "same again", "s"),
            map(_annotator, found.annotators),
        )
    )
    if found.between:
        rows = [(f"{b.first}, {b.second}", b.same.text(2), b.kappa.text(2)) for b in found.between]
        parts.append(table(("annotators", "same choice", "kappa"), rows))
        parts.append(f"Krippendorff's alpha: {found.alpha.text(2)}")
    if found.judge:
        rows = [
            (each.annotator, each.agreement.accuracy.text(2), each.agreement.kappa.text(2))
            for each in found.judge
        ]
        parts.append(table(("the judge against", "same side", "kappa"), rows))
    return "\n\n".join(parts)


def _annotator(each: AnnotatorFigures) -> tuple[object, ...]:
    shares = (each.first.text(2), each.longer.text(2), each.again.text(2))
    seconds = "-" if each.seconds is None else f"{each.seconds:.1f}"
    return each.annotator, each.answered, each.ties, each.skipped, *shares, seconds


@review.command("export")
@options.run_dir
@click.argument("path", type=file, callback=options.in_a_folder)
@options.debug
def export_reviews(run_dir: Path, path: Path) -> None:
    """Write the choices that count to PATH, as JSON lines, or as CSV where its name ends so.

    \b
    Examples:
      constitute review export reviews.jsonl
      constitute review export --run run reviews.csv
    """
    from constitute.cli.text import counted, say
    from constitute.data.reviews import read_reviews, write_reviews

    say(f"wrote {counted(write_reviews(path, read_reviews(run_dir)), 'review')} to {path}")


@review.command("import")
@options.run_dir
@click.argument("path", type=file)
@click.option("--annotator", help="Who chose, for rows that do not say.")
@options.debug
def import_reviews(run_dir: Path, path: Path, annotator: str | None) -> None:
    """Add choices that were made in another program: JSON lines or CSV with item, annotator and choice.

    A choice is a letter (a is the item's first option), the number of an option from 1, tie or skip.

    \b
    Examples:
      constitute review import reviews.jsonl
      constitute review import --run run --annotator ada choices.csv
    """
    from constitute.cli.text import counted, say
    from constitute.data import reviews

    found: list[Review] = reviews.import_reviews(path, reviews.read_items(run_dir), annotator)
    reviews.add_reviews(run_dir, found)
    say(f"added {counted(len(found), 'review')} to {run_dir}")
