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


def of_stage(store: Store, stage: str) -> dict[str, dict[str, Any]]:
    """The settings that rows of a stage were made with in place of its own, by row: few rows have any."""
    if not store.has_table("mended"):
        return {}
    found = store.read("SELECT row_id, settings FROM mended WHERE stage = ?", stage)
    return {row_id: json.loads(settings) for row_id, settings in found}


def by_settings(store: Store, stage: str) -> list[tuple[dict[str, Any], Status, int]]:
    """(settings, status, rows) of a stage's rows that were made with other settings than its own."""
    if not store.has_table("mended"):
        return []
    query = (
        "SELECT settings, status, count(*) FROM mended JOIN outcomes USING (stage, row_id) "
        "WHERE stage = ? GROUP BY 1, 2 ORDER BY 1, 2"
    )
    return [(json.loads(settings), status, rows) for settings, status, rows in store.read(query, stage)]
