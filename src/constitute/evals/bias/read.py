"""Read the files of a bias set, the shares of women by occupation, and draw items of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from constitute.data.rows import read_rows
from constitute.errors import DataError, UsageError
from constitute.evals.bias import SETS, bias_set
from constitute.evals.bias.base import OptionItem
from constitute.evals.items import file_name
from constitute.files import BadLine, Row
from constitute.text import grouped_reasons
from constitute.types import Record


class Read(Record):
    """The items of a file, its kind, and why other rows are none."""

    name: str
    kind: str
    items: tuple[OptionItem, ...]
    left_out: dict[str, int]


def read_set(path: Path, women: Mapping[str, float]) -> Read:
    """The items of a file of a known set. Raises `UsageError` for any other file."""
    rows: list[Row] = []
    bad: list[BadLine] = []
    for row in read_rows(path):
        if isinstance(row, Row):
            rows.append(row)
        else:
            bad.append(row)
    given = set(rows[0].value) if rows else set()
    kind = next((name for name in SETS if given.issuperset(bias_set(name).keys)), None)
    if kind is None:
        known = "; ".join(f"{name} ({', '.join(bias_set(name).keys)})" for name in SETS)
        raise UsageError(f"{path} is none of the bias sets that are known by their keys: {known}")
    items: list[OptionItem] = []
    for each in bias_set(kind).read((row for row in rows if given.issuperset(bias_set(kind).keys)), women):
        if isinstance(each, OptionItem):
            items.append(each)
        else:
            bad.append(each)
    if not items:
        raise DataError(f"{path} holds no item of {kind}; {bad[0].where}: {bad[0].reason}")
    told = grouped_reasons((("", each.reason, 1) for each in bad), None)
    return Read(
        name=file_name(path.name.split(".")[0]),
        kind=kind,
        items=tuple(items),
        left_out={reason: number for _, number, reason in told},
    )


def read_occupations(path: Path | None) -> dict[str, float]:
    """The share of women by occupation, of Winogender's occupations-stats.tsv; empty without a file."""
    shares: dict[str, float] = {}
    for row in read_rows(path) if path is not None else ():
        if isinstance(row, Row) and "bls_pct_female" in row.value:
            shares[str(row.value["occupation"])] = float(row.value["bls_pct_female"]) / 100
    if path is not None and not shares:
        raise DataError(f"{path} has no columns occupation and bls_pct_female; give occupations-stats.tsv")
    return shares


def drawn(items: Sequence[OptionItem], n: int | None, seed: int) -> list[OptionItem]:
    """`n` items by hashing (seed, id), in their own order: the first of a file are of a few templates."""
    if n is None or n >= len(items):
        return list(items)
    ranked = sorted(items, key=lambda item: hashlib.sha256(f"{seed} {item.id}".encode()).digest())
    chosen = {item.id for item in ranked[:n]}
    return [item for item in items if item.id in chosen]
