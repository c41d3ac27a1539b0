"""Learned cues: what a bag of words knows of the answers to items that it was not trained on.

Naive Bayes over the words that a text holds, five folds, with items that share a context or a question in
one of them. What the words of a statement say is what a set of statements measures, so that all words there
are reported and not judged; those that carry no content, and the first word, are to know nothing.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from constitute.evals.quality.base import Checked, Material, Measured, Parts, QualityCheck, share_by
from constitute.evals.quality.cues import off
from constitute.stages.filters.base import words
from constitute.stats import mean

_FOLDS = 5
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
    folds = [fold_of(part.cluster) for part in parts]
    seen = [_documents(part, features) for part in parts]
    hits = [0.0] * len(parts)
    for fold in range(_FOLDS):
        score = learn(doc for at, own in enumerate(seen) if folds[at] != fold for doc in own)
        for at, part in enumerate(parts):
            if folds[at] == fold:
                hits[at] = _hit(part, features, score)
    return hits


def _documents(part: Parts, features: Features) -> list[tuple[str, Iterable[str]]]:
    if part.texts:
        named = (("match" if at in part.matching else "other", text) for at, text in enumerate(part.texts))
        return [(name, features(text)) for name, text in named]
    return [(part.labels[at], features(part.stem)) for at in part.matching]


def _hit(part: Parts, features: Features, score: Callable[[str, Iterable[str]], float]) -> float:
    if part.texts:
        values = [score("match", own) - score("other", own) for own in map(features, part.texts)]
    else:
        values = [score(label, features(part.stem)) for label in part.labels]
    best = max(values)
    picked = [at for at, value in enumerate(values) if value > best - 1e-9]
    return len(set(picked) & set(part.matching)) / len(picked)


def bag_of_words(material: Material) -> Checked:
    """How often each classifier is right, beside chance."""
    parts = material.parts
    chance = mean([len(part.matching) / len(part.labels) for part in parts])
    figures: list[Measured] = []
    failing: list[str] = []
    for name, features in _FEATURES.items():
        share = share_by(learned_hits(parts, features), parts, f"bayes {name}", material.cfg.resamples)
        figures.append(Measured(name=name, estimate=share, chance=chance))
        if _JUDGED[name] and (share.value or 0) > chance and off(share, chance, material.cfg.cue_margin):
            failing.append(f"{name} {share.value:.2f}")
    every = figures[0].estimate.value or 0.0
    return Checked(
        check="words",
        ok=not failing,
        said=f"Learned from other items, {', '.join(failing) or 'nothing judged'} tells the answer, chance "
        f"{chance:.2f}; all words, which are not judged, {every:.2f}.",
        figures=tuple(figures),
    )


# All words hold what is asked, too.
_JUDGED: Mapping[str, bool] = {"all words": False, "words without content": True, "first word": True}

WORDS = QualityCheck(
    about="words without content, and the first word, do not tell the answer", find=bag_of_words
)
