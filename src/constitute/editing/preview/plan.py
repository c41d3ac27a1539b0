"""Which probes a preview shows under which principle, and what an edit moved."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest

from constitute.constitution.draw import draw
from constitute.constitution.identity import principle_hash
from constitute.constitution.priority import levels
from constitute.stages.few_shot import examples_hash
from constitute.types import Constitution, CritiqueRevision, Message, Principle, Prompt, Record


class ChosenProbe(Record):
    """A prompt to show; `owner` is the principle whose own probe it is, "" for any other prompt."""

    id: str
    prompt: Prompt
    owner: str = ""
    expect: str = ""


class Assigned(Record):
    """A probe, the principle it is shown under, and a digest of what its result depends on."""

    probe: ChosenProbe
    principle: Principle
    fingerprint: str = ""


class ShownProbe(Record):
    """What a model made of a probe: its response, each critique and revision, and what it then prefers.

    `p_revision` is P(the last revision is preferred to the response), in [0, 1]; where it is None,
    `problem` says why. `failed` marks a problem that asking again may mend, and `cut` is the text that was
    cut short, where that is the problem. `questions` counts what the result took.
    """

    id: str
    messages: tuple[Message, ...]
    expect: str = ""
    principle_id: str
    fingerprint: str
    response: str = ""
    steps: tuple[CritiqueRevision, ...] = ()
    p_revision: float | None = None
    problem: str = ""
    failed: bool = False
    cut: str = ""
    questions: int = 0

    @property
    def parts(self) -> tuple[tuple[str, str], ...]:
        """(name, text) of everything the model wrote, in the order written; empty texts are left out."""
        rounds = len(self.steps)
        found = [("response", self.response)]
        for number, step in enumerate(self.steps, 1):
            suffix = "" if rounds == 1 else f" {number}"
            found += [(f"critique{suffix}", step.critique), (f"revision{suffix}", step.revision)]
        found.append(("cut short", self.cut))
        return tuple((name, text) for name, text in found if text)


class WordingHash(Record):
    """What a preview remembers of a principle; `level` is its place, None in previews that did not say."""

    sha256: str
    weight: float
    level: int | None = None


class Preview(Record):
    """A whole preview. `made_by` is a digest of model, seed and settings: previews of one can be compared."""

    made_by: str
    principles: dict[str, WordingHash]
    probes: tuple[ShownProbe, ...]


class Moved(Record):
    """A probe's result beside its earlier one; `before` is None where there was none."""

    before: ShownProbe | None
    after: ShownProbe

    @property
    def same(self) -> bool:
        """Whether nothing that is shown differs: principle, texts, preference and problem."""
        return self.before is not None and _visible(self.before) == _visible(self.after)


class Edits(Record):
    """Ids of the principles that differ between two files, each sorted.

    `reweighted` holds those that kept their wording and changed in weight or level; order, comments, tags
    and sources count as nothing.
    """

    edited: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    reweighted: tuple[str, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        """All of them, in the order of the fields."""
        return (*self.edited, *self.added, *self.removed, *self.reweighted)


def wordings(constitution: Constitution) -> dict[str, WordingHash]:
    """What a preview remembers of each principle, by id."""
    level = levels(constitution)
    return {
        p.id: WordingHash(sha256=principle_hash(p), weight=p.weight, level=level[p.id])
        for p in constitution.principles
    }


def edits_between(before: Mapping[str, WordingHash], after: Mapping[str, WordingHash]) -> Edits:
    """Which principles an edit touched, and how."""
    both = sorted(before.keys() & after.keys())
    edited = [name for name in both if before[name].sha256 != after[name].sha256]
    moved = [name for name in both if name not in edited and _reweighted(before[name], after[name])]
    return Edits(
        edited=tuple(edited),
        added=tuple(sorted(after.keys() - before.keys())),
        removed=tuple(sorted(before.keys() - after.keys())),
        reweighted=tuple(moved),
    )


def _reweighted(before: WordingHash, after: WordingHash) -> bool:
    same_level = None in (before.level, after.level) or before.level == after.level
    return before.weight != after.weight or not same_level


def choose_probes(
    constitution: Constitution, others: Sequence[Prompt], n: int
) -> tuple[list[ChosenProbe], int]:
    """At most `n` probes, and how many of the principles' own found no room.

    The principles' own come first, one of each principle and then its next, by id; `others` fill what is
    left, in their order and without those that are there already. A principle of weight 0 takes no part.
    """
    owned = _own_probes(constitution)
    kept = owned[:n]
    texts = {probe.prompt.messages for probe in kept}
    fill = [prompt for prompt in others if prompt.messages not in texts]
    kept += [ChosenProbe(id=prompt.id, prompt=prompt) for prompt in fill[: n - len(kept)]]
    return kept, len(owned) - min(n, len(owned))


def assign(
    constitution: Constitution, probes: Sequence[ChosenProbe], row_id: Callable[[str], str] = str
) -> list[Assigned]:
    """Each probe with its principle, in the order given.

    A principle's own probe stays with it. Any other is drawn as a run draws for the row `row_id(prompt
    id)`, round 0. A principle that is then left without a probe takes one from a principle that was drawn
    for several, nearest by a hash of both ids. So an edited wording moves no probe, and a new principle
    only those it wins, and one for each principle that is left without. Principles of weight 0 get none.
    """
    holder = {probe.id: probe.owner or draw(constitution, row_id(probe.prompt.id), 0).id for probe in probes}
    by_id = {principle.id: principle for principle in constitution.principles}
    drawn = [probe.id for probe in probes if not probe.owner]
    for name in sorted(p.id for p in constitution.principles if p.weight > 0):
        held = Counter(holder.values())
        spare = [probe for probe in drawn if held[holder[probe]] > 1]
        if not held[name] and spare:
            holder[min(spare, key=lambda probe: _digest(probe, name))] = name
    return [Assigned(probe=probe, principle=by_id[holder[probe.id]]) for probe in probes]


def fingerprint(
    assigned: Assigned,
    voters: Sequence[tuple[Principle, float]],
    *,
    examples: bool = False,
    ranks: Mapping[str, int] | None = None,
) -> str:
    """A digest of what a probe's result depends on: prompt, principle, and who votes with which weight.

    With `examples`, those of the principles too, as they are shown; with `ranks`, by principle id, the
    voters' levels, where they decide.
    """
    turns = [[message.role, message.content] for message in assigned.probe.prompt.messages]
    votes = [[principle.id, principle_hash(principle), weight] for principle, weight in voters]
    own = assigned.principle
    shown = [examples_hash(p) for p in (own, *(p for p, _ in voters))] if examples else []
    ranked = [] if ranks is None else [[ranks[principle.id] for principle, _ in voters]]
    return _digest(assigned.probe.prompt.id, turns, own.id, principle_hash(own), votes, *shown, *ranked)


def split_touched(
    assigned: Sequence[Assigned], before: Preview | None, *, retry_failed: bool = False
) -> tuple[list[Assigned], list[ShownProbe]]:
    """The probes to ask again, and the earlier results that stand.

    Those whose own principle is another or reads otherwise come first, then those that only vote
    otherwise. With `retry_failed` a result that failed does not stand.
    """
    earlier = {} if before is None else {probe.id: probe for probe in before.probes}
    touched, kept = [], []
    for each in assigned:
        shown = earlier.get(each.probe.id)
        if shown is None or shown.fingerprint != each.fingerprint or (retry_failed and shown.failed):
            touched.append(each)
        else:
            # What a person wrote beside the prompt is shown as it reads now.
            kept.append(shown.model_copy(update={"expect": each.probe.expect}))
    known = {} if before is None else before.principles

    def only_votes(each: Assigned) -> bool:
        shown, wording = earlier.get(each.probe.id), known.get(each.principle.id)
        same = shown is not None and shown.principle_id == each.principle.id
        return same and wording is not None and wording.sha256 == principle_hash(each.principle)

    return sorted(touched, key=only_votes), kept


def _own_probes(constitution: Constitution) -> list[ChosenProbe]:
    by_principle: list[list[ChosenProbe]] = []
    for principle in sorted(constitution.principles, key=lambda p: p.id):
        found: dict[str, ChosenProbe] = {}
        for probe in principle.probes if principle.weight > 0 else ():
            name = f"probe-{_digest(probe.prompt)[:16]}"
            prompt = Prompt(id=name, messages=(Message(role="user", content=probe.prompt),))
            own = ChosenProbe(
                id=f"{principle.id}/{name}", prompt=prompt, owner=principle.id, expect=probe.expect
            )
            found.setdefault(name, own)
        by_principle.append(list(found.values()))
    return [probe for places in zip_longest(*by_principle) for probe in places if probe is not None]


def _visible(shown: ShownProbe) -> tuple[object, ...]:
    return shown.principle_id, shown.parts, shown.p_revision, shown.problem


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, ensure_ascii=True).encode()).hexdigest()
