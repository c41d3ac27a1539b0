"""Words of the few-shot examples, or of a principle and its requests, that a model repeats in its answer."""

from __future__ import annotations

from functools import lru_cache

from constitute.config import FilterConfig
from constitute.stages.filters.base import Candidate, Gram, RowFilter, Shown, grams, words


def _why(found: Candidate, cfg: FilterConfig, shown: Shown) -> str:
    n = cfg.leak_words
    said = set(_long(found.text, n))
    # What the conversation or the response itself says was not taken from elsewhere.
    for text in (*(message.content for message in found.messages), found.first):
        said -= set(_long(text, n))
    if said & _runs(shown.examples, n):
        return "the text repeats an example that models are shown"
    forms = tuple(text for p in shown.principles for text in (p.text, p.critique, p.revise))
    return "the text repeats a principle or its request" if said & _runs(forms, n) else ""


@lru_cache(maxsize=8)
def _runs(texts: tuple[str, ...], n: int) -> frozenset[Gram]:
    return frozenset(gram for text in texts for gram in _long(text, n))


def _long(text: str, n: int) -> list[Gram]:
    """The runs of `n` words; none of a text that has fewer."""
    found = words(text)
    return grams(found, n) if len(found) >= n else []


FILTER = RowFilter("runs of words from the examples, or from a principle and its requests", _why)
