"""Draw the principle of a row and round; an edit of the constitution changes as few draws as possible."""

from __future__ import annotations

import hashlib
import json
from math import log

from constitute.types import Constitution, Principle


def draw(constitution: Constitution, row_id: str, round: int) -> Principle:
    """The principle of a row's round, by weighted rendezvous hashing.

    Each principle scores log(-log(u)) - log(weight) with u uniform from SHA-256 of (row id, round,
    principle id), and the lowest wins: P(principle) = weight / sum of weights. The wording is
    not used, so an edit of a text changes no draw; a new principle takes only the rows that it wins. A
    principle of weight 0 is never drawn. (Highest random weight: Thaler and Ravishankar 1998; weighted:
    Schindelhauer 2005.)
    """
    candidates = [p for p in constitution.principles if p.weight > 0]
    if not candidates:
        raise ValueError(f"constitution {constitution.name!r}: every weight is 0, nothing can be drawn")
    return min(candidates, key=lambda p: (_score(row_id, round, p), p.id))


def _score(row_id: str, round: int, principle: Principle) -> float:
    key = json.dumps([row_id, round, principle.id]).encode()
    # Half a step is added to 52 bits, so u is never 0 and never 1, and both logarithms exist.
    bits = int.from_bytes(hashlib.sha256(key).digest()[:8]) >> 12
    return log(-log((bits + 0.5) / 2**52)) - log(principle.weight)
