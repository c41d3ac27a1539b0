"""The page of an eval set: what it is, every policy's score, and its items in groups, with filters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from constitute.evals.items import items_hash
from constitute.evals.judgements import GateRecord
from constitute.evals.metrics import ROLES
from constitute.evals.policies import by_number
from constitute.evals.quality.base import Checked, parts_of
from constitute.evals.quality.topics import topics
from constitute.evals.run import SetResult
from constitute.evals.write import WrittenSet
from constitute.files import write_text
from constitute.report.evals.answers import ShownItem, shown_item
from constitute.report.evals.figures import show_reach, show_value
from constitute.report.page import render_page
from constitute.stats import mean_of
from constitute.types import EvalItem

MOST_BYTES = 5_000_000
# Items on a page, policies beside each of them, and choices of one filter.
_ITEMS, _POLICIES, _CHOICES = 500, 8, 12
# Items from which topics are looked for.
_FEW = 20
# A label confidence from which an item counts as sure.
_SURE = 0.9


@dataclass(frozen=True)
class Choice:
    """A choice of a filter: items of the page that have `slot` are shown by it."""

    slot: str
    text: str
    count: int


@dataclass(frozen=True)
class Filter:
    """A row of choices of which one holds; all items are shown at first."""

    name: str
    title: str
    choices: tuple[Choice, ...]


@dataclass(frozen=True)
class Group:
    """Items under one title, each with the slots of the filters that show it."""

    title: str
    items: tuple[tuple[ShownItem, str], ...]


@dataclass(frozen=True)
class SetPage:
    """Everything on the page; every text in it is still to be escaped."""

    name: str
    total: int
    facts: tuple[tuple[str, str], ...]
    results: tuple[SetResult, ...]
    notes: tuple[str, ...]
    checks: tuple[Checked, ...]
    gate: tuple[tuple[str, str], ...]
    grouped_by: str
    groups: tuple[Group, ...]
    filters: tuple[Filter, ...]

    @property
    def shown(self) -> int:
        """Items on the page."""
        return sum(len(group.items) for group in self.groups)


def write_set_page(
    name: str,
    items: Sequence[EvalItem],
    results: Sequence[SetResult],
    made: WrittenSet | None,
    out: Path,
) -> Path:
    """Write the page of a set to `out`, of at most 5 MB; returns its path. Raises `StorageError`."""
    most = _ITEMS
    while len((page := render_set(set_page(name, items, results, made, most))).encode()) > MOST_BYTES:
        most //= 2
    return write_text(out, page)


def render_set(page: SetPage) -> str:
    """The page. Every text is escaped; the only style allowed to apply is our own, by its hash."""
    slots = [choice.slot for one in page.filters for choice in one.choices]
    rules = "".join(f"main:has(#{slot}:checked) .item:not(.{slot}){{display:none}}\n" for slot in slots)
    styles = ["report.css", "evals/evals.css"]
    return render_page(
        "evals/set.html.j2", styles, {"value": show_value, "reach": show_reach}, rules, page=page
    )


def set_page(
    name: str,
    items: Sequence[EvalItem],
    results: Sequence[SetResult],
    made: WrittenSet | None = None,
    most: int = _ITEMS,
) -> SetPage:
    """The page of a set; `results` are those of its name, of which some may be on other items.

    Of more than `most` items, ones spread evenly over the set are shown.
    """
    digest = items_hash(items)
    results = sorted(results, key=lambda result: by_number(result.policy))
    own = [result for result in results if result.items_hash == digest]
    shown = spread(items, most)
    scores = [{score.id: score for score in result.scores} for result in own[:_POLICIES]]
    rows = [(item, shown_item(item, [by_id.get(item.id) for by_id in scores])) for item in shown]
    filters, slots = filters_of(rows, [result.policy for result in own[:_POLICIES]])
    grouped_by, groups = groups_of(shown)
    return SetPage(
        name=name,
        total=len(items),
        facts=tuple(_facts(items, digest, made)),
        results=tuple(own),
        notes=tuple(_notes(own, results, digest)),
        checks=made.checks if made and made.items_hash == digest else (),
        gate=tuple(gate_facts(made.gate if made else None)),
        grouped_by=grouped_by,
        groups=tuple(
            Group(title, tuple((rows[at][1], " ".join(slots[at])) for at in members))
            for title, members in groups
        ),
        filters=filters,
    )


def _facts(items: Sequence[EvalItem], digest: str, made: WrittenSet | None) -> Iterator[tuple[str, str]]:
    """What the set is, in short: its datasheet has it all."""
    yield "items", str(len(items))
    subjects = list(made.subjects) if made else sorted({item.behavior for item in items} - {""})
    if subjects:
        yield "behavior", ", ".join(subjects)
    yield "family", ", ".join(sorted({item.family for item in items}))
    answers = Counter(", ".join(sorted(text.strip() for text in item.answers_matching)) for item in items)
    if len(answers) <= _CHOICES:
        yield "matching answers", ", ".join(f"{text}: {count}" for text, count in sorted(answers.items()))
    if contexts := {item.context for item in items} - {""}:
        yield "contexts", f"{len(contexts)}; items of one count together"
    sure = [item.label_confidence for item in items if item.label_confidence is not None]
    if sure:
        yield "label confidence", f"{mean_of(sure, 'confidence').text()}, {min(sure):.3f} at least"
    if made:
        model = " · ".join(
            str(made.model[key]) for key in ("engine", "name", "revision") if made.model.get(key)
        )
        yield "written by", model
        controls = made.controls.kept if made.controls else 0
        yield "candidates", f"{made.candidates}, of which {len(made.items) - controls} were kept"
        if made.controls:
            yield "controls", f"{made.controls.candidates} candidates, of which {controls} were kept"
    yield "hash of the items", digest


def _notes(own: Sequence[SetResult], results: Sequence[SetResult], digest: str) -> Iterator[str]:
    if not own:
        yield "No policy has been scored on these items: `constitute evals run` does it."
    for result in results:
        if result.items_hash != digest:
            yield (
                f"{result.policy} was scored on other items of this set ({result.items_hash}), "
                "so it is not shown"
            )
    if len(own) > _POLICIES:
        yield f"Beside each item are the first {_POLICIES} of {len(own)} policies."


def gate_facts(gate: GateRecord | None) -> Iterator[tuple[str, str]]:
    """What judges other than the writer's own made of the set, for people; nothing without a gate."""
    if gate is None:
        return
    dropped = ", ".join(f"{number} {why}" for why, number in gate.dropped.items() if number)
    yield "items judged", f"{gate.candidates}, of which {gate.kept} were kept"
    if dropped:
        yield "dropped", dropped
    if gate.kept_unclear:
        yield "kept though unclear", str(gate.kept_unclear)
    for one in gate.judges:
        yield "judge", f"{one.judge.name}{' (the writer itself)' if one.judge.same_model else ''}"
        yield "labels confirmed", one.agreement.text()
        yield "kappa", one.kappa.text()
        yield "about the behaviour", one.relevant.text()
        yield "unclear", str(one.orders_disagree + sum(one.reasons.values()))
        if one.people is not None:
            yield "kappa against people", one.people.text()
    yield "alpha with the written labels", gate.alpha.text()
    if gate.alpha_judges is not None:
        yield "alpha of the judges alone", gate.alpha_judges.text()


def spread(items: Sequence[EvalItem], most: int) -> list[EvalItem]:
    """At most `most` items, spread evenly over the set."""
    if len(items) <= most:
        return list(items)
    return [items[at * len(items) // most] for at in range(most)]


Row = tuple[EvalItem, ShownItem]


def filters_of(rows: Sequence[Row], policies: Sequence[str]) -> tuple[tuple[Filter, ...], list[list[str]]]:
    """The filters that tell some items from others, and the slots of each item.

    Of a filter with many choices, the commonest are offered.
    """
    found: list[Filter] = []
    slots: list[list[str]] = [[] for _ in rows]
    for title, choice_of in _criteria(rows, policies):
        chosen = [choice_of(row) for row in rows]
        counts = Counter(text for text in chosen if text)
        if len(counts) < 2:
            continue
        name = f"f{len(found)}"
        places = {text: f"{name}-{at}" for at, (text, _) in enumerate(counts.most_common(_CHOICES))}
        found.append(
            Filter(name, title, tuple(Choice(slot, text, counts[text]) for text, slot in places.items()))
        )
        for own, text in zip(slots, chosen, strict=True):
            if text in places:
                own.append(places[text])
    return tuple(found), slots


def _part(kind: str, row: Row) -> str:
    return dict(row[0].groups).get(kind, "")


def _verdict_at(place: int, row: Row) -> str:
    return _verdict(row[1], place)


def _criteria(rows: Sequence[Row], policies: Sequence[str]) -> Iterator[tuple[str, Callable[[Row], str]]]:
    """(title, the choice of an item) of each filter; an empty choice is none."""
    for kind in dict.fromkeys(kind for item, _ in rows for kind, _ in item.groups if kind not in ROLES):
        yield kind, partial(_part, kind)
    if len({text for item, _ in rows for text in item.options}) <= _CHOICES:
        yield "matching answer", lambda row: ", ".join(text.strip() for text in row[0].answers_matching)
    yield "label confidence", _sureness
    for at, policy in enumerate(policies):
        yield policy, partial(_verdict_at, at)
    if len(policies) > 1:
        yield "policies", _agreement


def _sureness(row: Row) -> str:
    confidence = row[0].label_confidence
    if confidence is None:
        return ""
    return f"{_SURE:g} or more" if confidence >= _SURE else f"below {_SURE:g}"


def _verdict(item: ShownItem, at: int) -> str:
    score = item.scores[at]
    return "no score" if score is None else "matches" if score.matching else "does not match"


def _agreement(row: Row) -> str:
    verdicts = {score.matching for score in row[1].scores if score is not None}
    return "differ" if len(verdicts) > 1 else "all alike" if verdicts else ""


def groups_of(items: Sequence[EvalItem]) -> tuple[str, list[tuple[str, list[int]]]]:
    """By what items are grouped, and (title, places) of each group, the largest first.

    By the first kind of groups that tells them apart, else by topics, which are clusters of like wording.
    """
    for kind in dict.fromkeys(kind for item in items for kind, _ in item.groups if kind not in ROLES):
        held: dict[str, list[int]] = {}
        for at, item in enumerate(items):
            held.setdefault(dict(item.groups).get(kind, "none"), []).append(at)
        if 1 < len(held) <= len(items) // 2:
            return kind, sorted(held.items(), key=lambda one: -len(one[1]))
    if len(items) < _FEW:
        return "", [("all items", list(range(len(items))))]
    stems = [item.statement or parts_of(item).stem for item in items]
    found = topics(stems)
    return "topic", [(" · ".join(one.words) or "no telling word", list(one.members)) for one in found]
