"""Recognise public shapes row by row, and lead rows of any shape to one of their uses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from constitute.config.data import ReadConfig
from constitute.data.readers import FAMILIES
from constitute.data.readers.base import Family, Item, Unusable, Use, Value, used_as
from constitute.files import BadLine, Row
from constitute.registry import registered

OWN = "own"


class LeftOut(BadLine):
    """Something of a file that is read and not used, as its shape has it: a tie, an empty answer."""


class Piece(NamedTuple):
    """Rows of a file that belong together, the family that reads them, and what it makes of them.

    Rows in our own form have the family `OWN` and are their own content.
    """

    where: str
    rows: int
    family: str
    content: Sequence[Row | BadLine | Item]


class Recogniser:
    """Finds the family of a row; keeps what it found by a row's keys, so that a row costs one look-up."""

    def __init__(self, only: str | None = None) -> None:
        names = {None: list(FAMILIES), OWN: []}.get(only, [str(only)])
        self.families: dict[str, Family] = {name: registered(FAMILIES, name, "read.shape") for name in names}
        self._candidates: dict[tuple[str, ...], list[str]] = {}

    def family(self, value: Value) -> str:
        """The name of the first family that the row fits, `OWN` where there is none."""
        keys = tuple(value)
        if keys not in self._candidates:
            given = set(keys)
            self._candidates[keys] = [n for n, f in self.families.items() if given.issuperset(f.keys)]
        for name in self._candidates[keys]:
            family = self.families[name]
            if all(value[key] is not None for key in family.keys) and family.fits(value):
                return name
        return OWN


def pieces(rows: Iterable[Row | BadLine], config: ReadConfig) -> Iterator[Piece]:
    """What a file holds, in its order; at most the rows of one group are in memory."""
    known = Recogniser(config.shape)

    def keyed() -> Iterator[tuple[tuple[str, Any], Row | BadLine]]:
        for number, row in enumerate(rows):
            name = OWN if isinstance(row, BadLine) else known.family(row.value)
            group = None if name == OWN else known.families[name].group
            yield (name, number if group is None or isinstance(row, BadLine) else (group(row.value),)), row

    for (name, _), members in groupby(keyed(), key=lambda pair: pair[0]):
        found = [row for _, row in members]
        where = found[0].where
        if name == OWN:
            yield Piece(where, len(found), OWN, found)
            continue
        values = [row.value for row in found if isinstance(row, Row)]
        yield Piece(where, len(found), name, list(_items(known.families[name], values, where, config)))


def _items(family: Family, values: list[Value], where: str, config: ReadConfig) -> Iterator[BadLine | Item]:
    try:
        for found in family.items(values, config):
            yield LeftOut(where=where, reason=found) if isinstance(found, str) else found
    except Unusable as problem:
        yield BadLine(where=where, reason=str(problem))


def rows_for(piece: Piece, use: Use, config: ReadConfig) -> Iterator[Row | BadLine]:
    """The rows of a piece for one use, in the form of our own files, and what is left out."""
    for each in piece.content:
        if not isinstance(each, Item):
            yield each
            continue
        for value in used_as(each, use, config):
            if isinstance(value, str):
                yield LeftOut(where=piece.where, reason=value)
            else:
                yield Row(piece.where, value)
