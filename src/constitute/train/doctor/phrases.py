"""Find phrases that spread over a policy's completions while it trains."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from constitute.stats import wilson

# Shorter runs of words are grammar, longer ones miss phrases that vary.
_WORDS = 4
# A phrase in fewer of the late completions is no habit yet.
LATE_SHARE = 0.2
# Two-sided level of the intervals that must not touch: thousands of phrases are looked at, though the few
# that a fifth of the completions share are all that can be reported.
_LEVEL = 0.999
_EXTEND, _LONGEST = 0.8, 24
# A word, one character of a script written without spaces, or a mark.
_TOKEN = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+|[^\w\s]"
)

Gram = tuple[str, ...]


@dataclass(frozen=True)
class Phrase:
    """A run of words and in how many of the early and of the late completions it stands."""

    text: str
    early: int
    n_early: int
    late: int
    n_late: int


def spreading(early: Sequence[str], late: Sequence[str], most: int = 3) -> list[Phrase]:
    """Phrases of four words and more that stand in far more of `late` than of `early`, commonest first.

    Far more: in a fifth of the late completions at least, and with 99.9 % Wilson intervals apart. A
    completion counts once for a phrase; one of fewer than four words is a phrase as a whole.
    """
    before, after = _counts(early), _counts(late)
    grown = {
        gram: count for gram, count in after.items() if _grew(before[gram], len(early), count, len(late))
    }
    found: list[Phrase] = []
    while grown and len(found) < most:
        # Equal counts: the first in the alphabet, so that the answer never depends on hashing.
        top = min(grown, key=lambda gram: (-grown[gram], gram))
        words = _extended(top, grown)
        found.append(Phrase(" ".join(words), before[top], len(early), after[top], len(late)))
        # What shares all but one of its words with a phrase is the same habit, seen a word further on.
        known = set(words)
        grown = {gram: count for gram, count in grown.items() if len(known & set(gram)) < len(set(gram)) - 1}
        grown.pop(top, None)
    return found


def _grew(early: int, n_early: int, late: int, n_late: int) -> bool:
    if not n_early or late < LATE_SHARE * n_late:
        return False
    return wilson(late, n_late, _LEVEL)[0] > wilson(early, n_early, _LEVEL)[1]


def _counts(completions: Sequence[str]) -> Counter[Gram]:
    counts: Counter[Gram] = Counter()
    for text in completions:
        words = tuple(_TOKEN.findall(text.lower()))
        if words:
            size = min(_WORDS, len(words))
            counts.update({words[at : at + size] for at in range(len(words) - size + 1)})
    return counts


def _extended(top: Gram, grown: dict[Gram, int]) -> Gram:
    """The longest run of words around `top` whose pieces are nearly as common."""
    words, least = top, _EXTEND * grown[top]
    common = sorted(gram for gram, count in grown.items() if len(gram) == _WORDS and count >= least)
    if len(top) < _WORDS:
        return words
    tails = {gram[:-1]: gram[-1] for gram in common}
    heads = {gram[1:]: gram[0] for gram in common}
    while len(words) < _LONGEST and words[1 - _WORDS :] in tails:
        words = (*words, tails[words[1 - _WORDS :]])
    while len(words) < _LONGEST and words[: _WORDS - 1] in heads:
        words = (heads[words[: _WORDS - 1]], *words)
    return words
