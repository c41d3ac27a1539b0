"""Items of a preference file: a prompt with answers that are right and others that are wrong."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pydantic import Field

from constitute.config.data import ReadConfig
from constitute.data.pairs import MEND, SIDES, answers, preference_of
from constitute.data.prompts import content_id, conversation, keys_of
from constitute.data.readers.base import Item, Unusable, Unwanted
from constitute.data.readers.recognise import LeftOut, pieces
from constitute.data.records import notes_on
from constitute.data.rows import Source, read_rows
from constitute.errors import DataError
from constitute.files import BadLine, Row
from constitute.types import Message, Record


class RewardItem(Record):
    """A conversation and its answers, of which the first `right` are right and the others wrong.

    `subset` is the part of the file, `place` the id that the file gives the item within it. Items that share
    a prompt have it as `context`.
    """

    id: str
    prompt: tuple[Message, ...]
    answers: tuple[str, ...] = Field(min_length=2)
    right: int = Field(default=1, ge=1)
    subset: str = ""
    place: str = ""
    context: str = ""

    @property
    def groups(self) -> tuple[tuple[str, str], ...]:
        """The part of the set, as eval items have it."""
        return (("subset", self.subset),) if self.subset else ()


def read_reward_items(
    source: Source, reading: ReadConfig, note: Callable[[str], None], limit: int | None = None
) -> list[RewardItem]:
    """The first `limit` items of a file, a folder, a glob or a Hub data set.

    A row has `chosen` and `rejected` in a form of `data.pairs.answers`, or is of a public shape: then the
    answers judged best are right, all others wrong. `note` is told what is left out: ties, equal answers.
    Raises `UsageError` or `DataError` with file and line; with `read.skip_bad` bad lines are noted instead.
    """
    items: list[RewardItem] = []
    unused: list[BadLine] = []
    for each in _found(source, reading):
        if isinstance(each, RewardItem):
            items.append(each)
        elif isinstance(each, LeftOut) or reading.skip_bad:
            unused.append(each)
        else:
            raise DataError(f"{each.where}: {each.reason}; {MEND}")
        if limit is not None and len(items) >= limit:
            break
    for sentence in notes_on(str(source), unused):
        note(sentence)
    if not items:
        raise DataError(f"{source} holds no answers of which one is better; give rows of chosen and rejected")
    return _named(items)


def reward_items_hash(items: Sequence[RewardItem]) -> str:
    """First 16 hex digits of the SHA-256 of all items: two results are comparable if equal."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(item.model_dump_json(exclude={"id", "context"}).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]


def _found(source: Source, reading: ReadConfig) -> Iterator[RewardItem | BadLine]:
    for piece in pieces(read_rows(source), reading):
        for each in piece.content:
            where = each.where if isinstance(each, Row | BadLine) else piece.where
            try:
                if isinstance(each, Item):
                    yield _of_shape(each)
                elif isinstance(each, Row):
                    yield _of_row(each.value)
                else:
                    yield each
            except Unwanted as reason:
                yield LeftOut(where=where, reason=str(reason))
            except Unusable as reason:
                yield BadLine(where=where, reason=str(reason))


def _of_row(value: dict[str, Any]) -> RewardItem:
    """A row of our own form. Raises `Unusable`, and `Unwanted` where neither answer is better."""
    chosen, rejected = SIDES[1]
    if value.get(chosen) is None or value.get(rejected) is None:
        raise Unusable(
            f"chosen and rejected are needed to say which answer is better; found {keys_of(value)}"
        )
    _, (first, second) = answers(value, chosen, rejected)
    if first == second:
        raise Unwanted("the answers are equal")
    pair = preference_of(value)
    if pair.chosen_prob == 0.5:
        raise Unwanted("a tie: neither answer is better")
    ordered = (first, second) if pair.chosen_prob > 0.5 else (second, first)
    subset = value.get("subset") or value.get("source") or ""
    return RewardItem(id="", prompt=pair.prompt, answers=ordered, subset=str(subset))


def _of_shape(item: Item) -> RewardItem:
    """A row of a public shape: the answers of the highest score against all others."""
    if item.unfit:
        raise Unwanted(item.unfit)
    scores = [answer.score for answer in item.answers]
    known = [score for score in scores if score is not None]
    if len(known) < 2 or len(known) < len(scores):
        raise Unwanted("it is not said which of the answers is the better")
    best = max(known)
    right = tuple(answer.text for answer in item.answers if answer.score == best)
    wrong = tuple(answer.text for answer in item.answers if answer.score != best)
    if not wrong:
        raise Unwanted("a tie: neither answer is better")
    if set(right) & set(wrong):
        raise Unwanted("the answers are equal")
    return RewardItem(
        id="",
        prompt=conversation(list(item.prompt), "prompt"),
        answers=(*right, *wrong),
        right=len(right),
        subset=str(item.extra.get("subset") or item.extra.get("source") or ""),
        place=str(item.extra.get("subset_id", "")),
    )


def _named(items: Sequence[RewardItem]) -> list[RewardItem]:
    """With the item's number as its id, from 1, and the prompts that several share as their context."""
    prompts = [content_id(item.prompt) for item in items]
    shared = Counter(prompts)
    return [
        item.model_copy(update={"id": str(number), "context": prompt if shared[prompt] > 1 else ""})
        for number, (item, prompt) in enumerate(zip(items, prompts, strict=True), 1)
    ]
