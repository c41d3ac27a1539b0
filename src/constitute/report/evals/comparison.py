"""The page of a comparison: sentences, figures, shares over steps and models, and the items that changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from constitute.evals.compare import Paired, pairs_of
from constitute.evals.policies import Policy, items_of
from constitute.evals.run import SetResult
from constitute.files import write_text
from constitute.report.charts import dots, plot
from constitute.report.evals.answers import ShownItem, shown_item
from constitute.report.evals.figures import show_change, show_reach
from constitute.report.evals.series import Drawn, drawn_of, steps_of
from constitute.report.page import render_page
from constitute.types import EvalItem

# Items of all comparisons together, and at most of one.
_ITEMS, _MOST = 400, 50


@dataclass(frozen=True)
class Changed:
    """The items of a set on which a policy moved, most changed first; `moves` are changes of P(matching)."""

    set: str
    first: str
    second: str
    items: tuple[tuple[ShownItem, float], ...]
    moved: int
    answers: int
    n: int
    note: str


@dataclass(frozen=True)
class ComparisonPage:
    """Everything on the page; every text in it is still to be escaped."""

    first: str
    others: tuple[str, ...]
    compared: tuple[Paired, ...]
    notes: tuple[str, ...]
    drawn: tuple[Drawn, ...]
    changed: tuple[Changed, ...]


def write_comparison(page: ComparisonPage, out: Path) -> Path:
    """Write the page to `out`; returns its path. Raises `StorageError` for the disk."""
    return write_text(out, render_comparison(page))


def render_comparison(page: ComparisonPage) -> str:
    """The page. Every text is escaped; the only style allowed to apply is our own, by its hash."""
    filters = {
        "over_steps": lambda drawn: plot(drawn.traces, "step"),
        "over_models": lambda drawn: dots(drawn.models, "share matching"),
        "change": show_change,
        "reach": lambda figure: show_reach(figure, signed=True),
    }
    return render_page("evals/comparison.html.j2", ["report.css", "evals/evals.css"], filters, page=page)


def comparison_page(
    policies: Sequence[Policy],
    compared: Sequence[Paired],
    notes: Sequence[str] = (),
    steps: Sequence[int] = (),
) -> ComparisonPage:
    """The page of policies, each beside the first. Raises `UsageError` for `steps` that do not fit."""
    pairs = pairs_of(policies)
    by_name = {policy.name: policy for policy in policies}
    sets = list(dict.fromkeys(one.set for one in compared))
    placed = steps_of(policies, steps)
    most = max(5, min(_MOST, _ITEMS // len(pairs)))
    return ComparisonPage(
        first=policies[0].name,
        others=tuple(policy.name for policy in policies[1:]),
        compared=tuple(sorted(compared, key=lambda one: sets.index(one.set))),
        notes=tuple(notes),
        drawn=tuple(drawn_of(policies, placed)),
        changed=tuple(_changed(by_name, first, second, most) for first, second in pairs),
    )


def _changed(by_name: Mapping[str, Policy], first: SetResult, second: SetResult, most: int) -> Changed:
    own = {score.id: score for score in first.scores}
    common = [(own[score.id], score) for score in second.scores if score.id in own]
    moves = []
    for before, after in common:
        if before.p_matching is None or after.p_matching is None:
            moves.append((float(after.matching) - float(before.matching), before, after))
        else:
            moves.append((after.p_matching - before.p_matching, before, after))
    # Of items that moved as far, those whose answer changed come first.
    moves.sort(key=lambda m: (-abs(m[0]), m[1].matching == m[2].matching, m[1].id))
    moved = [move for move in moves if move[0]]
    items = _items(by_name, first, second)
    shown = [
        (shown_item(items[before.id], (before, after)), move)
        for move, before, after in moved[:most]
        if before.id in items
    ]
    note = ""
    if moved and not shown:
        note = "the items were not kept beside these results; score them again to read them here"
    return Changed(
        set=first.set,
        first=first.policy,
        second=second.policy,
        items=tuple(shown),
        moved=len(moved),
        answers=sum(before.matching != after.matching for _, before, after in moves),
        n=len(common),
        note=note,
    )


def _items(by_name: Mapping[str, Policy], first: SetResult, second: SetResult) -> dict[str, EvalItem]:
    for result in (first, second):
        if kept := items_of(by_name[result.policy], result):
            return {item.id: item for item in kept}
    return {}
