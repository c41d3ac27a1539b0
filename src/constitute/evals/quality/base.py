"""What a check of an eval set is given and gives, and the parts of an item that checks look at."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from constitute.config.evals import EvalsConfig
from constitute.evals.families.persona import asked_labels, is_label, pronouns_of
from constitute.evals.select import fold
from constitute.significance import clustered_mean_of
from constitute.stats import Estimate, share_of
from constitute.types import EvalItem, Record

# An option as the question lists it; a text of several lines goes on to the next letter.
_OPTION = re.compile(r"(?m)^[ \t]*\(([A-Z])\)")
# What stands between the question and its options in the files of anthropics/evals.
_HEADER = re.compile(r"\s*(?:Choices|Options|Answer choices)\s*:\s*$")


class Measured(Record):
    """A figure of a set. `chance` is its value in a set that has no such flaw, where that is not 0."""

    name: str
    estimate: Estimate
    chance: float | None = None


class Checked(Record):
    """What a check found. `ok` is None where a check only reports; `said` is a sentence for people.

    `items` are the ids of the items concerned, every one, and `copies` what each of them copies, where the
    check can say that.
    """

    check: str
    ok: bool | None
    said: str
    figures: tuple[Measured, ...] = ()
    items: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()


@dataclass(frozen=True)
class Parts:
    """An item taken apart: what is asked, and each option's label and words.

    `texts` are empty where the options are labels that stand for no text, such as Yes and No; a reply may be
    as short as those and is a text.
    """

    item: EvalItem
    stem: str
    labels: tuple[str, ...]
    texts: tuple[str, ...]
    matching: tuple[int, ...]

    @property
    def said(self) -> str:
        """What tells the item from others: the statement, or what is asked with its options."""
        return self.item.statement or self.item.question

    @cached_property
    def cluster(self) -> str:
        """Items that share it say less than as many without: a context, or the same words asked."""
        return f"context {self.item.context}" if self.item.context else f"stem {fold(self.stem)}"


@dataclass(frozen=True)
class Material:
    """A set to be checked, and what it is checked against.

    `others` are sets that come before it, by name; `examples` what those ask that its writer was
    shown; `training` the files, folders, globs or data sets that a model is trained on.
    """

    name: str
    items: Sequence[EvalItem]
    cfg: EvalsConfig
    others: Mapping[str, Sequence[EvalItem]] = field(default_factory=dict)
    examples: Mapping[str, str] = field(default_factory=dict)
    training: Sequence[str] = ()

    @cached_property
    def parts(self) -> list[Parts]:
        """Its items, taken apart."""
        return [parts_of(item) for item in self.items]

    @cached_property
    def answered(self) -> list[Parts]:
        """Those that some answer shows the behaviour of: of three pronouns none does."""
        return [part for part in self.parts if pronouns_of(part.item) is None]


@dataclass(frozen=True)
class QualityCheck:
    """`find` looks at a set; `mend` gives ids of items to leave out so that it passes, where it can.

    `always` checks are enforced on every set that is written here. What a check that `balances` leaves out
    depends on all that the others left, so it is asked again after them.
    """

    about: str
    find: Callable[[Material], Checked]
    mend: Callable[[Material], Sequence[str]] | None = None
    always: bool = False
    balances: bool = False


def parts_of(item: EvalItem) -> Parts:
    """Take an item apart. Options that its question lists by letter have the words that stand there."""
    labels, matching = asked_labels(item)
    marks = list(_OPTION.finditer(item.question))
    listed = {
        mark[1]: item.question[mark.end() : after.start() if after else None].strip()
        for mark, after in zip(marks, [*marks[1:], None], strict=False)
    }
    stem = item.question[: marks[0].start()] if marks else item.question
    letters = [label.strip(" ()").upper() for label in labels]
    if marks and set(letters) <= set(listed):
        texts = tuple(listed[letter] for letter in letters)
    elif item.family != "reply" and all(is_label(label) for label in labels):
        texts = ()
    else:
        texts = tuple(label.strip() for label in labels)
    asked = item.statement or _HEADER.sub("", stem).strip()
    return Parts(item=item, stem=asked, labels=labels, texts=texts, matching=matching)


def unordered(part: Parts) -> str:
    """The folded question with its options, whatever their order: equal where two items say the same."""
    return "\n".join([fold(part.stem), *sorted(map(fold, part.texts))])


def share_by(hits: Sequence[float], parts: Sequence[Parts], seed: str, resamples: int) -> Estimate:
    """The mean over items of values in [0, 1]; clusters are drawn whole where items share one."""
    clusters = [part.cluster for part in parts]
    if len(set(clusters)) == len(clusters):
        return share_of(sum(hits), len(hits))
    return clustered_mean_of(hits, clusters, seed, resamples)


def surest_first(parts: Sequence[Parts]) -> list[Parts]:
    """By falling label confidence, unsaid ones last; ties in the order given."""
    return sorted(parts, key=lambda part: -(part.item.label_confidence or 0.0))
