"""Rows that were made with other settings than their stage's: failed ones, asked again with more."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from constitute.store.sqlite import Store
from constitute.types import Status

# Made when the first row is noted: runs without such rows are as they were.
_TABLE = """
CREATE TABLE IF NOT EXISTS mended (
  stage TEXT NOT NULL, row_id TEXT NOT NULL, settings TEXT NOT NULL, PRIMARY KEY (stage, row_id)
) STRICT
"""


def note(store: Store, stage: str, row_id: str, settings: Mapping[str, Any] | None) -> None:
    """Commit the settings of the stage that a row is made with in place of the stage's own; None for none."""
    if settings is not None:
        text = json.dumps(dict(settings), sort_keys=True)
        make_table(store)
        store.write("INSERT OR REPLACE INTO mended VALUES (?, ?, ?)", stage, row_id, text)
    elif store.has_table("mended"):
        store.write("DELETE FROM mended WHERE stage = ? AND row_id = ?", stage, row_id)


def make_table(store: Store) -> None:
    """Make the table, where it is not there."""
    store.write(_TABLE)


def of_row(store: Store, stage: str, row_id: str) -> dict[str, Any] | None:
    """The settings that a row was made with in place of the stage's own, None where it has those."""
    if not store.has_table("mended"):
        return None
    found = store.read("SELECT settings FROM mended WHERE stage = ? AND row_id = ?", stage, row_id)
    return json.loads(found[0][0]) if found else None


def by_settings(store: Store, stage: str) -> list[tuple[dict[str, Any], Status, int]]:
    """(settings, status, rows) of a stage's rows that were made with other settings than its own."""
    if not store.has_table("mended"):
        return []
    query = (
        "SELECT settings, status, count(*) FROM mended JOIN outcomes USING (stage, row_id) "
        "WHERE stage = ? GROUP BY 1, 2 ORDER BY 1, 2"
    )
    return [(json.loads(settings), status, rows) for settings, status, rows in store.read(query, stage)]
