"""What differs between two constitutions in words: principles added, removed, renamed, changed."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from itertools import accumulate
from typing import Literal

from constitute.config import LabelConfig
from constitute.constitution.identity import constitution_hash, principle_hash
from constitute.constitution.priority import level_names, levels
from constitute.constitution.read import FORMS
from constitute.editing.votes import wording_of
from constitute.stages.labels import label_method
from constitute.types import Constitution, Principle, Record

TEXTS = ("text", *FORMS)
# Two wordings that share this much are said to be near; no more follows from it.
NEAR = 0.7
Kind = Literal["added", "removed", "renamed", "changed"]


class PrincipleChange(Record):
    """One principle before and after; None on the side that does not hold it.

    `near` is, for an added or removed one, the principle of the other side that reads most like it.
    """

    before: Principle | None
    after: Principle | None
    near: str = ""

    @property
    def id(self) -> str:
        """The id after the change, or before it where the principle was removed."""
        principle = self.after or self.before
        return principle.id if principle else ""

    @property
    def kind(self) -> Kind:
        """A renamed principle has the wording it had; whatever else it changed is in `fields`."""
        if self.before is None:
            return "added"
        if self.after is None:
            return "removed"
        return "changed" if self.before.id == self.after.id else "renamed"

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields that differ, apart from the id; none where one side is missing."""
        before, after = self.before, self.after
        if before is None or after is None:
            return ()
        unordered = {"tags": sorted}
        names = [name for name in Principle.model_fields if name != "id"]
        return tuple(
            name
            for name in names
            if unordered.get(name, _same)(getattr(before, name))
            != unordered.get(name, _same)(getattr(after, name))
        )

    @property
    def reworded(self) -> tuple[str, ...]:
        """Which of text, critique, revise and compare differ."""
        return tuple(name for name in TEXTS if name in self.fields)


class AskedAnew(Record):
    """What a new run under the second constitution asks that one under the first did not.

    `form` is what the label method shows of a principle. `label` principles have questions of labels in
    other words. Those of `same_words` have the same words under another id or text, both part of a cache
    key, so a new run asks them again. Shares of rows, in expectation over row ids: `redrawn` rows draw
    another principle than before, `drawn_label` and `drawn_revise` rows draw one with another question.
    """

    form: str
    label: int
    same_words: tuple[str, ...]
    redrawn: float
    drawn_label: float
    drawn_revise: float


class Changes(Record):
    """All differences of two constitutions, in the order of the second, removed principles last.

    `levels` are the names of each one's levels, the highest first. `moved` are the ids in the second of
    principles that stand on another level than before, counted from the highest.
    """

    names: tuple[str, str]
    hashes: tuple[str, str]
    counts: tuple[int, int]
    levels: tuple[tuple[str, ...], tuple[str, ...]]
    moved: tuple[str, ...]
    changes: tuple[PrincipleChange, ...]
    anew: AskedAnew

    @property
    def renamed(self) -> dict[str, str]:
        """First id -> second id of principles that kept their wording under another id."""
        return {c.before.id: c.after.id for c in self.changes if c.kind == "renamed" and c.before and c.after}


def changes_between(a: Constitution, b: Constitution, cfg: LabelConfig | None = None) -> Changes:
    """Match the principles of `a` and `b` by id, then by identical wording, and list what differs.

    Similar wording is no match: it is a hint (`near`) at an added or removed principle. What a label
    question shows is that of `cfg`, the default settings where None.
    """
    ids_a, ids_b = {p.id for p in a.principles}, {p.id: p for p in b.principles}
    removed = [p for p in a.principles if p.id not in ids_b]
    pairs: dict[str, Principle] = {p.id: p for p in a.principles if p.id in ids_b}
    worded: dict[str, list[Principle]] = defaultdict(list)
    for principle in removed:
        worded[principle_hash(principle)].append(principle)
    for principle in b.principles:
        if principle.id in ids_a:
            continue
        if same := worded[principle_hash(principle)]:
            pairs[principle.id] = same.pop(0)
    renamed = {was.id for was in pairs.values()}
    removed = [p for p in removed if p.id not in renamed]
    added = [p for p in b.principles if p.id not in pairs]
    listed = [
        PrincipleChange(before=pairs.get(p.id), after=p, near="" if p.id in pairs else _nearest(p, removed))
        for p in b.principles
    ]
    listed += [PrincipleChange(before=p, after=None, near=_nearest(p, added)) for p in removed]
    changes = tuple(change for change in listed if change.kind != "changed" or change.fields)
    at_a, at_b = levels(a), levels(b)
    return Changes(
        names=(a.name, b.name),
        hashes=(constitution_hash(a), constitution_hash(b)),
        counts=(len(a.principles), len(b.principles)),
        levels=(level_names(a), level_names(b)),
        moved=tuple(p.id for p in b.principles if p.id in pairs and at_a[pairs[p.id].id] != at_b[p.id]),
        changes=changes,
        anew=_anew(a, b, cfg or LabelConfig()),
    )


def kept_draws(a: Constitution, b: Constitution, kept: Callable[[Principle, Principle], bool]) -> float:
    """Share of rows that draw the same id under both, of the principles whose two versions are `kept`.

    Each principle's score is Exp(1) / weight with the same Exp(1) under both (see `constitution.draw`),
    so i wins both draws with probability 1 / sum over j of max(w_j / w_i, v_j / v_i), where w are the
    weights under `a` and v those under `b`, 0 for a principle that is missing.
    """
    first, second = ({p.id: p for p in c.principles if p.weight > 0} for c in (a, b))
    weights = {
        name: tuple(side[name].weight if name in side else 0.0 for side in (first, second))
        for name in first.keys() | second.keys()
    }
    # w_j / w_i is the larger of the two just where w_j / v_j is at least w_i / v_i: sorted by that ratio, the
    # sum over j is a sum of v up to a place and one of w from there on.
    ordered = sorted((w / v if v else math.inf, w, v) for w, v in weights.values())
    ratios = [ratio for ratio, *_ in ordered]
    sums_w = [0.0, *accumulate(w for _, w, _ in ordered)]
    sums_v = [0.0, *accumulate(v for *_, v in ordered)]
    share = 0.0
    for name in first.keys() & second.keys():
        if not kept(first[name], second[name]):
            continue
        w, v = weights[name]
        below = bisect_left(ratios, w / v)
        share += 1 / (sums_v[below] / v + (sums_w[-1] - sums_w[below]) / w)
    return min(1.0, share)


def _anew(a: Constitution, b: Constitution, cfg: LabelConfig) -> AskedAnew:
    shown = {wording_of(p, cfg) for p in a.principles}
    kept = [p for p in b.principles if wording_of(p, cfg) in shown]
    texts = {p.id: p.text for p in a.principles}
    return AskedAnew(
        form=label_method(cfg.method).form,
        label=len(b.principles) - len(kept),
        same_words=tuple(p.id for p in kept if texts.get(p.id) != p.text),
        redrawn=_rest(kept_draws(a, b, lambda *_: True)),
        drawn_label=_rest(kept_draws(a, b, lambda p, q: wording_of(p, cfg) == wording_of(q, cfg))),
        drawn_revise=_rest(kept_draws(a, b, _equal("critique", "revise"))),
    )


def _rest(share: float) -> float:
    # Rounding of the sum must not leave a trace of a change where there is none.
    return 0.0 if share > 1 - 1e-12 else 1 - share


def _equal(*names: str) -> Callable[[Principle, Principle], bool]:
    return lambda p, q: all(getattr(p, name) == getattr(q, name) for name in names)


def _nearest(principle: Principle, others: Sequence[Principle]) -> str:
    """The id of the one whose words are most alike, of those that are near."""
    best, most = "", 0.0
    matcher = SequenceMatcher(None, b=principle.text.split(), autojunk=False)
    for other in others:
        matcher.set_seq1(other.text.split())
        # The first two are bounds from above, and cheap.
        least = max(NEAR, most)
        if matcher.real_quick_ratio() < least or matcher.quick_ratio() < least:
            continue
        likeness = matcher.ratio()
        if likeness >= NEAR and likeness > most:
            best, most = other.id, likeness
    return best


def _same(value: object) -> object:
    return value
