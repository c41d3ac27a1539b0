"""Learned cues: what a bag of words knows of the answers to items that it was not trained on.

Naive Bayes over the words that a text holds, five folds, with items that share a context or a question in
one of them. What the words of a statement say is what a set of statements measures, so that all words there
are reported and not judged; those that carry no content, and the first word, are to know nothing.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from constitute.config.evals import EvalsConfig
from constitute.evals.quality.base import Checked, Material, Measured, Parts, QualityCheck, share_by
from constitute.evals.quality.cues import off, rules, signs
from constitute.stages.filters.base import words
from constitute.stats import Estimate, mean

_FOLDS = 5
# Pairs are left out one in so many items at a time: after each time all is learned anew.
_STEPS = 100
# Words without content of their own: articles, pronouns, prepositions, conjunctions, auxiliaries, negation.
FUNCTION_WORDS = frozenset(
    words(
        "a an the this that these those i me my mine myself you your yours he him his she her hers it "
        "its we us our ours they them their theirs who whom whose which what there here of in on at "
        "by for with without from to into onto over under about between through during before after "
        "above below up down out off and or but nor so yet if because while although though unless "
        "until than as be am is are was were been being do does did have has had having will would "
        "shall should can could may might must cannot not no never none neither nobody nothing i'm "
        "i'd i'll i've it's that's don't doesn't didn't won't wouldn't can't couldn't isn't aren't "
        "wasn't weren't shouldn't haven't hasn't yes very just only also too even still all any some "
        "each every both more most much many few less least other such own same when where why how"
    )
)
Features = Callable[[str], Iterable[str]]
_FEATURES: dict[str, Features] = {
    "all words": lambda text: set(words(text)),
    "words without content": lambda text: {word for word in words(text) if word in FUNCTION_WORDS},
    "first word": lambda text: words(text)[:1],
}


def fold_of(cluster: str) -> int:
    """The fold of all items of a cluster."""
    return int.from_bytes(hashlib.sha256(cluster.encode()).digest()[:4], "big") % _FOLDS


def learn(documents: Iterable[tuple[str, Iterable[str]]]) -> Callable[[str, Iterable[str]], float]:
    """log P(features | class) from (class, features) pairs, with one added to each count."""
    counts: dict[str, Counter[str]] = {}
    for name, features in documents:
        counts.setdefault(name, Counter()).update(features)
    known = len(set().union(*counts.values())) + 1
    totals = {name: sum(own.values()) + known for name, own in counts.items()}

    def score(name: str, features: Iterable[str]) -> float:
        own = counts.get(name, Counter())
        return math.fsum(math.log((own[each] + 1) / totals.get(name, known)) for each in features)

    return score


def learned_hits(parts: Sequence[Parts], features: Features) -> list[float]:
    """For each item the probability that the classifier of the other folds picks a matching answer.

    Options that are texts are each called matching or not; of a statement the label is called. Among answers
    that score alike it picks at random.
    """
    hits: list[float] = []
    for part, values in zip(parts, _learned(parts, features), strict=True):
        best = max(values)
        picked = [at for at, value in enumerate(values) if value > best - 1e-9]
        hits.append(len(set(picked) & set(part.matching)) / len(picked))
    return hits


def _learned(parts: Sequence[Parts], features: Features) -> list[list[float]]:
    """What the classifier of the other folds gives to each answer of each item, in nats."""
    folds = [fold_of(part.cluster) for part in parts]
    # Each answer's own words, or those of the statement.
    seen = [[list(features(text)) for text in part.texts or (part.stem,)] for part in parts]
    values: list[list[float]] = [[] for _ in parts]
    for fold in range(_FOLDS):
        score = learn(
            doc for at, part in enumerate(parts) if folds[at] != fold for doc in _documents(part, seen[at])
        )
        for at, part in enumerate(parts):
            if folds[at] != fold:
                continue
            if part.texts:
                values[at] = [score("match", own) - score("other", own) for own in seen[at]]
            else:
                values[at] = [score(label, seen[at][0]) for label in part.labels]
    return values


def _documents(part: Parts, seen: Sequence[list[str]]) -> list[tuple[str, list[str]]]:
    """What an item teaches: each answer's words with its side, or a statement's words with its label."""
    if part.texts:
        return [("match" if at in part.matching else "other", own) for at, own in enumerate(seen)]
    return [(part.labels[at], seen[0]) for at in part.matching]


# All words hold what is asked, too.
_JUDGED: Mapping[str, bool] = {"all words": False, "words without content": True, "first word": True}


def bag_of_words(material: Material) -> Checked:
    """How often each classifier is right, beside chance."""
    parts = material.answered
    if not parts:
        return Checked(check="words", ok=None, said="No answer shows a behaviour that words could tell.")
    chance = _chance(parts)
    figures = [
        Measured(name=name, estimate=_right(parts, name, material.cfg), chance=chance) for name in _FEATURES
    ]
    failing = [
        f"{one.name} {one.estimate.value:.2f}"
        for one in figures
        if _JUDGED[one.name] and _tells(one.estimate, chance, material.cfg)
    ]
    every = figures[0].estimate.value or 0.0
    return Checked(
        check="words",
        ok=not failing,
        said=f"Learned from other items, {', '.join(failing) or 'nothing judged'} tells the answer, chance "
        f"{chance:.2f}; all words, which are not judged, {every:.2f}.",
        figures=tuple(figures),
    )


def _chance(parts: Sequence[Parts]) -> float:
    return mean([len(part.matching) / len(part.labels) for part in parts])


def _right(parts: Sequence[Parts], name: str, cfg: EvalsConfig) -> Estimate:
    return share_by(learned_hits(parts, _FEATURES[name]), parts, f"bayes {name}", cfg.resamples)


def _tells(share: Estimate, chance: float, cfg: EvalsConfig) -> bool:
    return (share.value or 0) > chance and off(share, chance, cfg.cue_margin)


def telling(material: Material) -> list[str]:
    """Ids to leave out so that what is judged is at chance: adversarial filtering (arXiv 2002.04108).

    Of the items that the classifiers of the other folds are surest of, a few at a time are left out, each
    with one for which the same rules are wrong that are right for it, its label among them: cues and labels
    stay as even as they are. None where more than half of `evals.n` items would not be left.
    """
    left, out = material.answered, list[str]()
    least = material.cfg.n // 2
    while failing := [
        name
        for name, judged in _JUDGED.items()
        if judged and left and _tells(_right(left, name, material.cfg), _chance(left), material.cfg)
    ]:
        pairs = _surest_pairs(left, failing)[: max(1, len(left) // _STEPS)]
        gone = {name for pair in pairs for name in pair}
        if not gone or len(left) - len(gone) < least:
            return []
        out += sorted(gone)
        left = [part for part in left if part.item.id not in gone]
    return out


def _surest_pairs(parts: Sequence[Parts], names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of opposite items, those ahead of which the classifiers are surest and right."""
    sure = [0.0] * len(parts)
    for name in names:
        for at, values in enumerate(_learned(parts, _FEATURES[name])):
            matching = parts[at].matching
            others = [value for place, value in enumerate(values) if place not in matching]
            sure[at] += max(values[place] for place in matching) - max(others)
    found = rules(parts)
    groups: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
    for at in sorted(range(len(parts)), key=lambda at: -sure[at]):
        groups[tuple(signs(parts[at], found))].append(at)
    pairs: list[tuple[int, int]] = []
    for own, group in groups.items():
        against = tuple(-sign for sign in own)
        if own == against:
            pairs += zip(group[::2], group[1::2], strict=False)
        elif own > against:
            pairs += zip(group, groups.get(against, ()), strict=False)
    pairs.sort(key=lambda pair: -(sure[pair[0]] + sure[pair[1]]))
    return [(parts[one].item.id, parts[other].item.id) for one, other in pairs]


WORDS = QualityCheck(
    about="words without content, and the first word, do not tell the answer",
    find=bag_of_words,
    mend=telling,
    balances=True,
)
