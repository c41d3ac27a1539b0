"""Cues: how often somebody is right who does not read, but always says Yes, or picks the longest.

A set says nothing of a behaviour where such a rule scores far from chance: a model that agrees with all,
or likes long answers, then seems to show it, or its opposite.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median

from constitute.evals.quality.base import (
    Checked,
    Material,
    Measured,
    Parts,
    QualityCheck,
    share_by,
    surest_first,
)
from constitute.stages.filters.base import words
from constitute.stats import Estimate, mean

_NEGATIONS = frozenset(words("no not never none nobody nothing neither nor without cannot"))
_Pick = Callable[[Parts], Sequence[int]]


def negated(text: str) -> bool:
    """Whether a text holds a word of negation, "n't" included."""
    return any(word in _NEGATIONS or word.endswith("n't") for word in words(text))


def rules(parts: Sequence[Parts]) -> dict[str, _Pick]:
    """What can be followed without reading: the options that each rule picks; none where it has no say.

    Of items whose options are labels alone the statement is what a rule looks at.
    """
    found: dict[str, _Pick] = {}
    if any(part.texts for part in parts):
        found |= {
            "the longest": lambda part: _extreme(part.texts, max),
            "the shortest": lambda part: _extreme(part.texts, min),
            "the one that begins with yes": lambda part: _beginning(part.texts, "yes"),
            "the one that begins with no": lambda part: _beginning(part.texts, "no"),
        }
    statements = [part for part in parts if _is_statement(part)]
    if statements:
        middle = median(len(part.stem) for part in statements)
        found |= {
            "yes to longer statements, no to others": lambda part: _yes(part, len(part.stem) > middle),
            "no to negated statements, yes to others": lambda part: _yes(part, not negated(part.stem)),
        }
    return found


def _is_statement(part: Parts) -> bool:
    return not part.texts and {label.strip().lower() for label in part.labels} == {"yes", "no"}


def _yes(part: Parts, yes: bool) -> list[int]:
    if not _is_statement(part):
        return []
    return [at for at, label in enumerate(part.labels) if (label.strip().lower() == "yes") == yes]


def _extreme(texts: Sequence[str], best: Callable[[list[int]], int]) -> list[int]:
    lengths = [len(text) for text in texts]
    return [at for at, length in enumerate(lengths) if length == best(lengths)] if texts else []


def _beginning(texts: Sequence[str], word: str) -> list[int]:
    return [at for at, text in enumerate(texts) if words(text)[:1] == [word]]


def _gain(part: Parts, picked: Sequence[int]) -> tuple[float, float]:
    """(probability that a rule is right, of a random pick); both are equal where the rule has no say."""
    chance = len(part.matching) / len(part.labels)
    if not picked or len(picked) == len(part.labels):
        return chance, chance
    return len(set(picked) & set(part.matching)) / len(picked), chance


def off(estimate: Estimate, chance: float, margin: float) -> bool:
    """Whether a share is off chance by more than `margin`, and its interval leaves chance out."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return False
    return abs(estimate.value - chance) > margin and not estimate.low <= chance <= estimate.high


def cues(material: Material) -> Checked:
    """How often each rule is right, beside chance."""
    parts, figures, failing = material.answered, [], []
    for name, pick in rules(parts).items():
        gains = [_gain(part, pick(part)) for part in parts]
        chance = mean([each for _, each in gains])
        share = share_by([hit for hit, _ in gains], parts, f"cue {name}", material.cfg.resamples)
        figures.append(Measured(name=name, estimate=share, chance=chance))
        if off(share, chance, material.cfg.cue_margin):
            failing.append(f"{name} {share.value:.2f}")
    if not figures:
        return Checked(
            check="cues", ok=None, said="It has neither statements nor options that rules could go by."
        )
    if failing:
        said = (
            f"Who does not read is right by rules: {', '.join(failing)}; by chance {figures[0].chance:.2f}."
        )
    else:
        said = f"No rule that does not read is off chance by more than {material.cfg.cue_margin:g}."
    return Checked(check="cues", ok=not failing, said=said, figures=tuple(figures))


def lopsided(material: Material) -> list[str]:
    """Ids to leave out so that every rule is right as often as wrong; the surest items stay.

    Items are grouped by which rules are right of them, the rule of always saying one label among them, and
    of each group as many stay as of the group for which the same rules are wrong. What is a long statement
    depends on the items that are left, so this is done until it leaves out no more.
    """
    left, out = material.answered, list[str]()
    while now := set(_outnumbered(left)):
        out += now
        left = [part for part in left if part.item.id not in now]
    return out


def _outnumbered(parts: Sequence[Parts]) -> list[str]:
    found = rules(parts)
    groups: defaultdict[tuple[int, ...], list[Parts]] = defaultdict(list)
    for part in surest_first(parts):
        groups[tuple(signs(part, found))].append(part)
    out: list[str] = []
    for own, group in groups.items():
        against = groups.get(tuple(-sign for sign in own), [])
        out += [part.item.id for part in group[len(against) :]]
    return out


def signs(part: Parts, found: Mapping[str, _Pick]) -> Iterator[int]:
    """For each rule 1 where it is right of an item, -1 where it is wrong, else 0; then the label's side."""
    for pick in found.values():
        hit, chance = _gain(part, pick(part))
        yield (hit > chance) - (hit < chance)
    first = min(range(len(part.labels)), key=part.labels.__getitem__)
    labelled = len(part.labels) == 2 and (not part.texts or part.texts[0] != part.labels[0].strip())
    yield (1 if first in part.matching else -1) if labelled else 0


CUES = QualityCheck(
    about="no rule that ignores the question is right more often, or less, than chance",
    find=cues,
    mend=lopsided,
    balances=True,
)
