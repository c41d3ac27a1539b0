"""What an annotator is shown next, and in which order: nothing in it follows from who wrote an answer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from constitute.data.reviews import LETTERS, SKIP, TIE, Item, Review


@dataclass(frozen=True)
class Showing:
    """An item as it is shown: `order` are the letters of its options, the first one shown first."""

    item: Item
    order: str
    again: bool = False

    @property
    def shown(self) -> list[str]:
        """The texts in the order shown."""
        return [self.item.options[LETTERS.index(letter)] for letter in self.order]

    def review(self, annotator: str, key: str, seconds: float, note: str = "") -> Review:
        """The choice that a key means: the number of a text as shown from 1, `=` for a tie, `s` to skip."""
        choice = {"=": TIE, "s": SKIP}.get(key) or self.order[int(key) - 1]
        return Review(
            item=self.item.id,
            annotator=annotator,
            choice=choice,
            order=self.order,
            again=self.again,
            seconds=round(seconds, 1),
            note=note,
        )

    @property
    def keys(self) -> str:
        """The keys that `review` takes."""
        return "".join(str(number) for number in range(1, len(self.order) + 1)) + "=s"


def showings(items: Sequence[Item], annotator: str, repeat: int = 0) -> list[Showing]:
    """All items in the annotator's own order, then the first `repeat` of them with their options reversed.

    The order of items and of options is drawn by a hash of annotator and item: a session that goes on later
    shows the same.
    """
    mine = sorted(items, key=lambda item: _draw(annotator, "place", item.id))
    first = [Showing(item, _order(item, annotator)) for item in mine]
    return [*first, *(Showing(one.item, one.order[::-1], again=True) for one in first[:repeat])]


def _order(item: Item, annotator: str) -> str:
    letters = LETTERS[: len(item.options)]
    return "".join(sorted(letters, key=lambda letter: _draw(annotator, letter, item.id)))


def _draw(annotator: str, what: str, item: str) -> bytes:
    return hashlib.sha256("\0".join((annotator, what, item)).encode()).digest()
