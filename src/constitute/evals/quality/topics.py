"""Variety: how far items differ, and which topics they are about.

Topics are clusters of TF-IDF vectors: k-means on the unit sphere (Dhillon and Modha 2001), as many as in
arXiv 2212.09251. Deviates from it in the vectors, which there are of a sentence encoder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from constitute.data.diversity import diversity
from constitute.evals.quality.base import Checked, Material, Measured, Parts, QualityCheck
from constitute.evals.quality.bayes import FUNCTION_WORDS
from constitute.evals.quality.cues import off
from constitute.stages.filters.base import words
from constitute.stats import share_of
from constitute.types import Record

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOPICS_SOUGHT = 10
_ROUNDS = 30
# Pairs of words from which a text repeats an earlier one, as in the prompts that a model writes.
_NEAR_PAIRS = 0.6


class Topic(Record):
    """A cluster of items: its telling words, and the places of its items in the set."""

    words: tuple[str, ...]
    members: tuple[int, ...]


def variety(material: Material) -> Checked:
    """Self-BLEU, distinct n-grams, and coverage by clusters."""
    found = diversity([part.said for part in material.parts], _NEAR_PAIRS)
    return Checked(
        check="diversity",
        ok=None,
        said=f"It has {found.clusters} clusters of like wording.",
        figures=(
            Measured(name="self-BLEU", estimate=found.self_bleu),
            Measured(name="distinct-1", estimate=found.distinct_1),
            Measured(name="distinct-2", estimate=found.distinct_2),
            Measured(name="coverage", estimate=found.coverage),
        ),
    )


def topics(texts: Sequence[str], number: int = TOPICS_SOUGHT) -> list[Topic]:
    """At most `number` topics, the largest first; fewer where so few texts differ."""
    import numpy

    vectors, terms = _vectors(texts)
    if not terms:
        return [Topic(words=(), members=tuple(range(len(texts))))]
    centres = _spread(vectors, number)
    nearest = numpy.zeros(len(texts), dtype=int)
    for _ in range(_ROUNDS):
        now = (vectors @ centres.T).argmax(axis=1)
        if (now == nearest).all() and _:
            break
        nearest = now
        for at in range(len(centres)):
            own = vectors[nearest == at].sum(axis=0)
            if (norm := numpy.linalg.norm(own)) > 0:
                centres[at] = own / norm
    found = []
    for at, centre in enumerate(centres):
        members = tuple(int(place) for place in numpy.flatnonzero(nearest == at))
        if members:
            telling = [
                terms[place] for place in numpy.argsort(-centre, kind="stable")[:4] if centre[place] > 0
            ]
            found.append(Topic(words=tuple(telling), members=members))
    return sorted(found, key=lambda topic: (-len(topic.members), topic.members))


def _vectors(texts: Sequence[str]) -> tuple[NDArray[Any], list[str]]:
    """Unit TF-IDF vectors of the words with content that two texts or more hold, and these words."""
    import numpy

    said = [[word for word in words(text) if word not in FUNCTION_WORDS] for text in texts]
    held = Counter(word for text in said for word in set(text))
    terms = sorted(word for word, number in held.items() if number > 1)
    place = {word: at for at, word in enumerate(terms)}
    vectors = numpy.zeros((len(texts), len(terms)), dtype=numpy.float32)
    for row, text in zip(vectors, said, strict=True):
        for word, number in Counter(text).items():
            if word in place:
                row[place[word]] = number * (1 + numpy.log(len(texts) / held[word]))
    norms = numpy.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / numpy.where(norms > 0, norms, 1), terms


def _spread(vectors: NDArray[Any], number: int) -> NDArray[Any]:
    """Centres to begin with: each is the text least like those chosen, from the one most like all on."""
    import numpy

    chosen = [int((vectors @ vectors.sum(axis=0)).argmax())]
    likeness = vectors @ vectors[chosen[0]]
    while len(chosen) < min(number, len(vectors)):
        unlike = numpy.where(numpy.linalg.norm(vectors, axis=1) > 0, likeness, 2)
        at = int(unlike.argmin())
        if unlike[at] > 1 - 1e-6:
            break
        chosen.append(at)
        likeness = numpy.maximum(likeness, vectors @ vectors[at])
    return vectors[chosen].copy()


def by_topic(material: Material) -> Checked:
    """The topics, how much of the set the largest takes, and whether a label prevails in one of them."""
    parts = material.parts
    found = topics([part.stem for part in parts])
    figures, lopsided = [], []
    for topic in found:
        name = " ".join(topic.words) or "no telling word"
        share = share_of(len(topic.members), len(parts))
        figures.append(Measured(name=f"topic {name}", estimate=share))
        label, own = _prevailing([parts[at] for at in topic.members])
        if label and off(own, 0.5, material.cfg.cue_margin):
            lopsided.append(f"{name}: {label} {own.value:.2f} of {own.n}")
            figures.append(Measured(name=f"{label} in {name}", estimate=own, chance=0.5))
    largest = figures[0].estimate.value or 0
    said = f"{len(found)} topics, the largest with {largest:.2f} of the items"
    said += f"; one label prevails in {len(lopsided)} of them." if lopsided else "; no label prevails in one."
    return Checked(check="topics", ok=None, said=said, figures=tuple(figures))


def _prevailing(parts: Sequence[Parts]) -> tuple[str, Any]:
    """The label that shows the behaviour most often among items of two labels, with its share."""
    counts = Counter(part.labels[part.matching[0]].strip(" ()") for part in parts if len(part.labels) == 2)
    if not counts:
        return "", share_of(0, 0)
    (label, number) = max(counts.items(), key=lambda each: (each[1], each[0]))
    return label, share_of(number, sum(counts.values()))


DIVERSITY = QualityCheck(about="how far items differ in wording", find=variety)
TOPICS = QualityCheck(about="what items are about, and labels by topic", find=by_topic)
