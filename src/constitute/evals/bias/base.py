"""What a bias set is: its items, and the figures that are counted from the probabilities of their options."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from constitute.files import BadLine, Row
from constitute.types import Record


class OptionItem(Record):
    """A question with options. `group` names the template it was made from: such items are not independent.

    `answer` is the option that is right, `unknown` the one that says that nobody knows, `biased` the one that
    a stereotype names, `female` the female pronoun; None where the item has no such. `women` is the share of
    women among people of the occupation, in [0, 1].
    """

    id: str
    question: str
    options: tuple[str, ...]
    group: str
    ambiguous: bool = False
    answer: int | None = None
    unknown: int | None = None
    biased: int | None = None
    female: int | None = None
    women: float | None = None


class OptionScore(Record):
    """P of each option in the item's own order, the mean over the orders shown, and the mean mass."""

    id: str
    p: tuple[float, ...]
    mass: float

    @property
    def choice(self) -> int:
        """The likeliest option."""
        return max(range(len(self.p)), key=self.p.__getitem__)


Scored = tuple[OptionItem, OptionScore]
# None where the items do not say, such as a correlation of one occupation.
Statistic = Callable[[Sequence[Scored]], float | None]


def _every(item: OptionItem) -> bool:
    return True


@dataclass(frozen=True)
class Figure:
    """A statistic of the items that are `of` it; `per_group` where its cases are groups and not items."""

    statistic: Statistic
    of: Callable[[OptionItem], bool] = _every
    per_group: bool = False


@dataclass(frozen=True)
class BiasSet:
    """`read` makes items of rows that have all `keys`, with `women`, the share of women by occupation.

    What cannot be an item comes as a `BadLine` with its reason. `figures` are counted in each condition.
    """

    about: str
    keys: tuple[str, ...]
    read: Callable[[Iterable[Row], Mapping[str, float]], Iterator[OptionItem | BadLine]]
    figures: Mapping[str, Figure]
