"""What a run comes to, in words: what worked, what got worse, what to distrust; a sentence each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from constitute.evals.kinds import KindChange
from constitute.report.policies import Axis, Shift, shift_of
from constitute.report.rows import Labels
from constitute.report.show import show_figure, show_interval, show_reach
from constitute.report.training import BY_REWARD, Figure, Trained
from constitute.report.view import Report, StageRows
from constitute.stats import Estimate, share_of
from constitute.types import Record

Kind = Literal["worked", "worse", "distrust", "seen"]
KINDS: tuple[Kind, ...] = ("worked", "worse", "distrust", "seen")
# Sets of evals that get a sentence each; of more, the rest is counted.
_SETS = 6
_CHANCE = 0.5


class Conclusion(Record):
    """One sentence, and what kind of news it is; `seen` is neither good nor bad as far as is known here."""

    kind: Kind
    sentence: str


def conclusions(report: Report) -> list[Conclusion]:
    """All that can be concluded from the figures of a run, by kind."""
    said = [
        *_policies(report),
        *(found for one in report.training for found in _training(one)),
        *_labels(report.labels, report.headline),
        *_rows(report.stages),
        *_evals(report),
    ]
    found = [Conclusion(kind="distrust", sentence=each.sentence) for each in report.unfinished]
    found += [Conclusion(kind=kind, sentence=sentence) for kind, sentence in said]
    return sorted(found, key=lambda one: KINDS.index(one.kind))


_Said = Iterator[tuple[Kind, str]]
_KINDS: dict[str, Kind] = {"better": "worked", "worse": "worse"}


def _policies(report: Report) -> _Said:
    """The last policy against the first on each axis, then each step on the way that made things worse."""
    names, unmoved = report.policies.names, []
    for axis in report.policies.axes:
        shift = axis.shifts[-1]
        if shift is None:
            continue
        if shift.tone == "same":
            unmoved.append(axis.name)
            continue
        yield _KINDS.get(shift.tone, "seen"), _went(axis, 0, len(names) - 1, shift, names)
    for axis in report.policies.axes:
        for at in range(1, len(names) - 1):
            step = shift_of(axis.name, axis.figures[at], axis.figures[at + 1])
            whole = axis.shifts[-1]
            if step is not None and step.tone == "worse" and (whole is None or whole.tone != "worse"):
                yield "worse", _went(axis, at, at + 1, step, names)
    if unmoved:
        yield "seen", f"no change seen from {names[0]} to {names[-1]} in {', '.join(unmoved)}"


def _went(axis: Axis, first: int, last: int, shift: Shift, names: tuple[str, ...]) -> str:
    way = "rose" if (shift.difference.value or 0.0) > 0 else "fell"
    before, after = (show_figure(axis.figures[at], axis.percent) for at in (first, last))
    return (
        f"{axis.name} {way} from {before} to {after}, {names[first]} to {names[last]} "
        f"({_by(shift, axis.percent)})"
    )


def _training(one: Trained) -> _Said:
    """What the trainer says of itself, then its accuracy on pairs held out, or what PPO did to its reward."""
    for sentence in (one.verdict, *one.noted):
        if sentence:
            yield "distrust", f"{one.title}: {sentence}"
    figures = dict(one.figures)
    accuracy = figures.get("accuracy")
    if accuracy is not None and accuracy.low is not None and not one.verdict:
        right = f"{one.title}: right on {_share(accuracy)} of held-out pairs"
        if accuracy.low > _CHANCE:
            yield "worked", f"{right}, where chance is 50 %"
        elif not one.noted:
            yield "distrust", f"{right}, which is not shown to be better than chance"
    if one.kind in BY_REWARD and len(one.figures) == 2:
        (_, before), (_, after) = one.figures
        yield from _reward(one.title, before, after)


def _reward(title: str, before: Estimate, after: Estimate) -> _Said:
    shift = shift_of("reward", before, after)
    if shift is None:
        return
    ends = f"{show_figure(before, False)} to {show_figure(after, False)} ({_by(shift, False)})"
    if shift.tone == "same":
        yield "distrust", f"{title}: no change seen in the reward, {ends}"
    elif (shift.difference.value or 0.0) > 0:
        yield "seen", f"{title}: the reward it maximises rose from {ends}, which alone is no better answer"
    else:
        yield "worse", f"{title}: the reward it maximises fell from {ends}"


def _labels(labels: Labels | None, headline: list[tuple[str, Figure, bool]]) -> _Said:
    if labels is None:
        return
    doubts = [labels.verdict.sentence] if labels.verdict else []
    for sentence in [*doubts, *labels.warnings]:
        yield "distrust", sentence
    judges = [("an oracle", figure) for name, figure, _ in headline if "oracle" in name]
    if labels.card.agreement is not None:
        judges.append(("people", labels.card.agreement.accuracy))
    for who, figure in judges:
        if not isinstance(figure, Estimate) or figure.low is None:
            continue
        kind: Kind = "worked" if figure.low > _CHANCE else "distrust"
        # That labels do not agree with people is among the warnings.
        if kind == "worked" or who != "people":
            yield kind, f"labels agree with {who} in {_share(figure)} of the pairs that both decide"
    if labels.flips.low is not None and not labels.verdict:
        kind = "distrust" if labels.flips.low > _CHANCE else "seen"
        yield kind, f"{_share(labels.flips)} of the votes change with the order of the answers"


def _rows(stages: list[StageRows]) -> _Said:
    total, failed = (sum(getattr(one.counts, key) for one in stages) for key in ("total", "failed"))
    if failed:
        most = max(stages, key=lambda one: one.counts.failed)
        why = next((f": {text}" for status, text, _ in most.reasons if status == "failed"), "")
        share = show_figure(share_of(failed, total))
        yield "distrust", f"{failed:,} of {total:,} rows failed ({share}), most of them in {most.title}{why}"
    elif total:
        yield "worked", f"no row failed, of {total:,} in {len(stages)} stage{'s' if len(stages) > 1 else ''}"
    for one in stages:
        if one.counts.stage in ("filter", "label") and one.counts.abstain:
            gone = share_of(one.counts.abstain, one.counts.total)
            what = "removed" if one.counts.stage == "filter" else "left without a label"
            why = next(
                (f", for example: {text}" for status, text, _ in one.reasons if status == "abstain"), ""
            )
            kind: Kind = "distrust" if gone.low is not None and gone.low > _CHANCE else "seen"
            yield kind, f"{one.title}: {_share(gone)} of the rows were {what}{why}"


def _evals(report: Report) -> _Said:
    """The last policy against the first on each set: which way is wanted is not known here."""
    moved, unmoved = [], []
    changes = {(one.target.set, one.target.second): one for one in report.kinds}
    for name, rows in report.evals.items():
        (first, _), (last, shift) = rows[0], rows[-1]
        for row, _ in rows:
            asked = row.share.n + row.n_unparsed
            if 2 * row.n_unparsed > asked:
                yield "distrust", f"{row.policy} has no score on {row.n_unparsed} of {asked} items of {name}"
        if change := changes.get((name, last.policy)):
            yield _of_kinds(change), change.sentence
        elif shift is not None and shift.tone == "same":
            unmoved.append(name)
        elif shift is not None:
            ends = f"{show_figure(first.share)} to {show_figure(last.share)} of the items"
            moved.append(
                f"{name}: answers as the behaviour has it went from {ends}, {first.policy} to {last.policy} "
                f"({_by(shift, True)})"
            )
    for sentence in moved[:_SETS]:
        yield "seen", sentence
    if len(moved) > _SETS:
        yield "seen", f"{len(moved) - _SETS} more eval sets moved"
    if unmoved:
        names = ", ".join(unmoved) if len(unmoved) <= _SETS else f"{len(unmoved)} eval sets"
        yield "seen", f"no change seen on {names}"


def _of_kinds(change: KindChange) -> Kind:
    """Which kind of news it is: a principle's set says which answers are wanted."""
    if change.moved and (change.target.share.value or 0.0) < 0:
        return "worse"
    return "worked" if change.alone else "seen"


def _by(shift: Shift, percent: bool) -> str:
    value = shift.difference.value or 0.0
    by = f"{100 * value:+.1f} points" if percent else f"{value:+.3g}"
    return f"{by.replace('-', '−')}, 95 % interval {show_reach(shift, percent)}, n = {shift.difference.n}"


def _share(figure: Estimate) -> str:
    return f"{show_figure(figure)} ({show_interval(figure)})"
