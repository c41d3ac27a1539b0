"""Draw the principle x pair matrix as one HTML file that runs nothing, and write it as CSV."""

from __future__ import annotations

import csv
import io
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Any

from constitute.editing.attribute.figures import LEVELLED, Attribution, PairVotes
from constitute.files import write_text
from constitute.report.charts import Cell, heatmap
from constitute.report.page import render_page
from constitute.stats import Estimate
from constitute.text import csv_cell

MOST_LISTED = 50


def write_heatmap(figures: Attribution, title: str, out: Path, missing: str = "") -> Path:
    """Write the page to `out`, `missing` in red at its top; returns its path.

    Raises `StorageError` for the disk.
    """
    return write_text(out, render_heatmap(figures, title, missing))


def render_heatmap(figures: Attribution, title: str, missing: str = "") -> str:
    """The page. Every text is escaped; the only style allowed to apply is our own, by its hash."""
    empty = blank(figures)
    page: dict[str, Any] = {
        "figures": figures,
        "title": title,
        "missing": missing,
        "sentences": sentences(figures),
        "map": "" if empty else heatmap(cells(figures)),
        "blank": empty,
        "nobody": [c for c in figures.columns if not c.confident],
        "most": MOST_LISTED,
    }
    return render_page("heatmap.html.j2", ["report.css", "heatmap.css"], {"share": share}, **page)


def cells(figures: Attribution) -> list[Cell]:
    """The cells row by row: principles in their order, pairs by falling P(A).

    Missing votes side by side are one cell.
    """
    found = []
    for at, influence in enumerate(figures.influences):
        votes = [(place, column, column.votes[at]) for place, column in enumerate(figures.columns)]
        for missing, group in groupby(votes, key=lambda vote: vote[2] is None):
            stretch = list(group)
            if missing:
                found.append(
                    _missing(influence.principle_id, stretch[0][0], [one.id for _, one, _ in stretch])
                )
            else:
                found += [_vote(influence.principle_id, place, one, p or 0.0) for place, one, p in stretch]
    return found


def _vote(principle: str, place: int, column: PairVotes, p: float) -> Cell:
    decides = ", decides" if principle in column.deciders else ""
    return Cell(
        row=principle,
        column=place,
        end=place + 1,
        kind="a" if p >= 0.5 else "b",
        depth=round(abs(2 * p - 1), 3),
        title=f"{principle}, {column.id}: P(A) = {p:.3f}{decides}",
    )


def _missing(principle: str, place: int, pairs: list[str]) -> Cell:
    which = pairs[0] if len(pairs) == 1 else f"{pairs[0]} to {pairs[-1]}, {len(pairs)} pairs"
    title = f"{principle}, {which}: no vote"
    return Cell(row=principle, column=place, end=place + len(pairs), kind="none", depth=1.0, title=title)


def blank(figures: Attribution) -> str:
    """Why the map shows next to nothing; "" where it shows something."""
    if figures.missing == len(figures.influences) * len(figures.columns):
        return "no vote was cast, so every cell is empty"
    if not any(column.confident for column in figures.columns):
        return "no vote is confident, so every cell is pale: the model tells no pair's answers apart"
    return ""


def as_csv(figures: Attribution) -> str:
    """The matrix, a pair a row: id, P(A), deciders, then P(A) by principle, empty where missing."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["pair", "p_a", "decided_by", *(csv_cell(i.principle_id) for i in figures.influences)])
    for column in figures.columns:
        votes = ["" if p is None else repr(p) for p in column.votes]
        writer.writerow([csv_cell(column.id), repr(column.p_a), csv_cell(" ".join(column.deciders)), *votes])
    return out.getvalue()


def share(figure: Estimate) -> str:
    """A share alone, in percent."""
    return "-" if figure.value is None else f"{100 * figure.value:.0f} %"


def sentences(figures: Attribution) -> list[str]:
    """What the matrix says, a sentence each."""
    pairs, width = len(figures.columns), len(figures.influences)
    said = [f"{width} principles, {pairs} pairs; a vote is confident at |2 P(A) - 1| >= {figures.margin:g}"]
    if figures.missing:
        said.append(
            f"{figures.missing} of {width * pairs} votes are missing, so figures rest on few pairs; "
            "fill them with --fill, or label with label.principles=all"
        )
    for group in figures.groups:
        if len(group.members) > 1 and group.same.n:
            names = ", ".join(group.members)
            said.append(
                f"{names} prefer the same answer on a share of {group.same.text(2)} of the pairs with a "
                "confident vote"
            )
    nobody = sum(not column.confident for column in figures.columns)
    conflicts = sum(column.conflict for column in figures.columns)
    said.append(f"no confident vote on {nobody} pairs, confident votes both ways on {conflicts}")
    said += _ruled(figures)
    if figures.undecided:
        said.append(f"no principle decides {figures.undecided} of {pairs} pairs")
    if (subset := figures.subset) is not None:
        how = "no fewer do" if subset.exact else "fewer may do"
        members = ", ".join(subset.members)
        said.append(
            f"{len(subset.members)} of {width} principles ({members}) keep {subset.kept} of {subset.n} "
            f"decisions, a share of {subset.share.text(2)}; {how}"
        )
    return said


def _ruled(figures: Attribution) -> list[str]:
    """How votes became labels, and what the other rules cannot say."""
    pairs = len(figures.columns)
    counts = Counter(column.level for column in figures.columns if column.level)
    said = [f"labels by the rule {figures.rule}"]
    if counts:
        levels = [f"{name} decides {count}" for name, count in counts.most_common()]
        rest = pairs - sum(counts.values())
        said[0] += f": of {pairs} pairs {', '.join(levels)}, no level {rest} (the mean of all votes)"
    if figures.alone == pairs:
        said.append("each pair has one vote, which is the label under every rule")
    elif figures.rule != LEVELLED and all(other.rule != LEVELLED for other in figures.others):
        said.append("the levels of the principles are not known, so the rule priority is not compared")
    if figures.rule != "mean":
        said.append("the fewest principles that keep the decisions are found for the rule mean alone")
    return said
