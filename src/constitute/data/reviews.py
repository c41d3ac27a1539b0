"""What people chose between answers, in the folder `reviews` of a run: the items, and a log per annotator.

Choices are added and never changed: where an annotator went back, the last one counts.
"""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from pydantic import Field, ValidationError

from constitute.errors import DataError, RunMismatch, StorageError, UsageError
from constitute.files import BadLine, append_log, atomic, json_lines, read_log, read_text
from constitute.stages.card import card_of
from constitute.stages.card.records import LabelCard
from constitute.store import Store
from constitute.types import Message, Record

_R = TypeVar("_R", bound=Record)
FOLDER = "reviews"
ITEMS_FILE = "items.jsonl"
TIE, SKIP = "tie", "skip"
# Options are named by letters in the order of the item, whatever the order in which they were shown.
LETTERS = "abcdefghijklmnopqrstuvwxyz"
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"


class Item(Record):
    """Something to choose between: a conversation, or none, and the texts that answer it."""

    id: str = Field(min_length=1)
    messages: tuple[Message, ...] = ()
    options: tuple[str, ...] = Field(min_length=2, max_length=len(LETTERS))


class Review(Record):
    """One choice: the letter of an option, `tie` or `skip`.

    `order` are the letters in the order shown, `again` says that the item was shown a second time to see
    whether the annotator chooses the same, and `seconds` is how long it took, None where nobody measured.
    """

    item: str = Field(min_length=1)
    annotator: str = Field(pattern=NAME)
    choice: str
    order: str = ""
    again: bool = False
    seconds: float | None = Field(default=None, ge=0)
    note: str = ""


def reviews_folder(run: Path) -> Path:
    return run / FOLDER


def read_items(run: Path) -> list[Item]:
    """The items under review, in the order in which they were drawn; none where there is no review."""
    path = reviews_folder(run) / ITEMS_FILE
    return [_checked(Item, value, path) for value in read_log(path)]


def add_items(run: Path, items: Iterable[Item]) -> None:
    """Add items to those under review."""
    append_log(reviews_folder(run) / ITEMS_FILE, [item.model_dump_json() for item in items])


def read_reviews(run: Path) -> list[Review]:
    """The choices that count: of each annotator the last for each item, and for its second showing.

    By annotator, and within one in the order in which the items were first answered.
    """
    found: list[Review] = []
    for path in sorted(reviews_folder(run).glob("by-*.jsonl")):
        latest: dict[tuple[str, bool], Review] = {}
        for value in read_log(path):
            one = _checked(Review, value, path)
            latest[one.item, one.again] = one
        found += latest.values()
    return found


def add_reviews(run: Path, reviews: Sequence[Review]) -> None:
    """Add choices of one annotator or several; they are on disk when this returns."""
    for annotator in dict.fromkeys(one.annotator for one in reviews):
        lines = [one.model_dump_json() for one in reviews if one.annotator == annotator]
        append_log(_log_of(run, annotator), lines)


@contextmanager
def annotating(run: Path, annotator: str) -> Iterator[None]:
    """Keep a second process from writing as the same annotator; raises `RunMismatch` where one does."""
    folder = reviews_folder(run)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / f"{annotator}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as problem:
        raise StorageError(f"cannot write in {folder}: {problem.strerror}; give another --run DIR") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunMismatch(
                f"{annotator} is reviewing {run} in another terminal; finish there, or give another "
                "name with --annotator"
            ) from None
        yield
    finally:
        with suppress(OSError):
            os.close(descriptor)


def human_choices(run: Path) -> dict[str, float]:
    """P(the first option) by item of two options, as people chose: the share of annotators, a tie is half.

    Second showings and skips do not count; an item without any other choice is not there.
    """
    worth = {"a": 1.0, "b": 0.0, TIE: 0.5}
    votes: dict[str, list[float]] = {}
    for one in read_reviews(run):
        if not one.again and one.choice in worth:
            votes.setdefault(one.item, []).append(worth[one.choice])
    return {item: sum(found) / len(found) for item, found in votes.items()}


def reviewed_card(store: Store) -> LabelCard:
    """The label card of a run; what reviewers chose stands before what the file of a pair says."""
    return card_of(store, human_choices(store.folder))


_COLUMNS = ("item", "annotator", "choice", "order", "again", "seconds", "note")


def write_reviews(path: Path, reviews: Iterable[Review]) -> int:
    """Write choices as JSON lines, or as CSV by the file's ending; returns how many."""
    rows = [one.model_dump(mode="json") for one in reviews]
    with atomic(path) as stream:
        if path.suffix == ".csv":
            text = io.StringIO()
            writer = csv.DictWriter(text, _COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
            stream.write(text.getvalue().encode())
        else:
            stream.writelines(f"{json.dumps(row, ensure_ascii=False)}\n".encode() for row in rows)
    return len(rows)


def import_reviews(path: Path, items: Sequence[Item], annotator: str | None) -> list[Review]:
    """Choices from another program: JSON lines or CSV with `item` (or `id`), `choice` and `annotator`.

    `annotator` stands for rows that name none. A choice is a letter, the number of an option from 1, `tie` or
    `skip`. Raises `DataError` with the line for a row that is none of that, and for an unknown item.
    """
    known = {item.id: len(item.options) for item in items}
    found: list[Review] = []
    for where, row in _rows(path):
        name = str(row.get("item") or row.get("id") or "")
        if name not in known:
            raise DataError(f"{where}: no item {name!r} is under review here; its ids are in {ITEMS_FILE}")
        by = str(row.get("annotator") or annotator or "")
        if not by:
            raise DataError(f"{where}: the row names no annotator; add the column, or give --annotator NAME")
        value = {
            "item": name,
            "annotator": by,
            "choice": _choice(row.get("choice"), known[name], where),
            **{
                key: row[key]
                for key in ("order", "again", "seconds", "note")
                if row.get(key) not in (None, "")
            },
        }
        found.append(_checked(Review, value, Path(where)))
    if not found:
        raise DataError(f"{path} holds no reviews; give rows with item, annotator and choice")
    return found


def _choice(value: object, options: int, where: str) -> str:
    text = str(value if value is not None else "").strip().lower()
    letters = LETTERS[:options]
    if text in (TIE, SKIP) or (len(text) == 1 and text in letters):
        return text
    if text.isdecimal() and 1 <= int(text) <= options:
        return letters[int(text) - 1]
    raise DataError(
        f"{where}: the choice {value!r} is none; give {', '.join(letters)}, 1 to {options}, {TIE} or {SKIP}"
    )


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    if path.suffix == ".csv":
        for number, row in enumerate(csv.DictReader(io.StringIO(read_text(path))), 2):
            yield f"{path}:{number}", row
        return
    for line in json_lines(path):
        if isinstance(line, BadLine):
            raise DataError(f"{line.where}: {line.reason}; mend the line")
        yield line.where, line.value


def _log_of(run: Path, annotator: str) -> Path:
    return reviews_folder(run) / f"by-{annotator}.jsonl"


def _checked(kind: type[_R], value: object, where: Path) -> _R:
    try:
        return kind.model_validate(value)
    except ValidationError as problem:
        first = problem.errors()[0]
        field = ".".join(map(str, first["loc"])) or "its root"
        raise DataError(f"{where}: {field}: {first['msg']}; mend the row") from None


def require_name(annotator: str) -> str:
    """The name, where it can name a file; raises `UsageError` otherwise."""
    if not re.fullmatch(NAME, annotator):
        raise UsageError(
            f"{annotator!r} cannot name an annotator; give --annotator letters, digits, dots, _ and -"
        )
    return annotator
