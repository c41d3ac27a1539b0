"""Find one row's whole chain by an id that a person typed, and the ids that there are."""

from __future__ import annotations

import re
from difflib import get_close_matches
from itertools import islice
from typing import get_args

from constitute.errors import UsageError
from constitute.store.sqlite import Store
from constitute.types import Outcome, Status

# A sample of a prompt is prompt/NUMBER; what a stage makes from a row has the row's id, or that id and -more.
_OF_SAMPLE = re.compile(r"(?P<prompt>.+)/\d+(-.*)?", re.DOTALL)


def chain_of(store: Store, wanted: str) -> list[tuple[str, Outcome]]:
    """(stage, outcome) of a row and of all that was made from it, by position and then age.

    `wanted` is the id of a prompt, a response or a pair, or the beginning of one. Raises `UsageError`
    that names the nearest ids where there is no such row, and some rows where several begin with it.
    """
    rows = _made_from(store, wanted)
    if rows:
        return rows
    ids = store.row_ids(wanted)
    roots = sorted({_root(found, wanted) for found in ids})
    if not roots:
        known = sorted({_root(each, "") for each in store.row_ids()})
        near = get_close_matches(wanted, known, n=3)
        hint = f"did you mean {', '.join(near)}?" if near else f"ids are such as {', '.join(known[:3])}"
        raise UsageError(f"no row {wanted!r} in {store.folder}; {hint}")
    if len(roots) > 1:
        some = ", ".join(roots[:5])
        raise UsageError(f"{wanted!r} is the beginning of {len(roots)} rows ({some}, …); give more of it")
    return _made_from(store, roots[0])


def first_ids(store: Store, most: int = 5) -> list[tuple[str, Status, int, list[str]]]:
    """(stage, status, rows, the ids of its first rows) for each way in which rows of a stage ended."""
    return [
        (stage, status, rows, [row.row_id for row in islice(store.outcomes(stage, status), most)])
        for stage in store.stages()
        for status in get_args(Status)
        if (rows := store.counts(stage)[status])
    ]


def _made_from(store: Store, row_id: str) -> list[tuple[str, Outcome]]:
    found = store.find(row_id, f"{row_id}/", f"{row_id}-")
    # "p/0-1" of another stage was made from "p/0"; "p/0-1" of the same stage is a row of its own.
    own = {stage for stage, outcome in found if outcome.row_id == row_id}
    beside = f"{row_id}-"
    return [
        (stage, outcome)
        for stage, outcome in found
        if not outcome.row_id.startswith(beside) or (own and stage not in own)
    ]


def _root(row_id: str, wanted: str) -> str:
    """The prompt of a row, or the row itself where `wanted` says more than the prompt's id."""
    match = _OF_SAMPLE.fullmatch(row_id)
    return match["prompt"] if match and len(wanted) <= len(match["prompt"]) else row_id
