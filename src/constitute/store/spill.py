"""A map of texts that need not fit in memory: names met so far in a file of any length."""

from __future__ import annotations

import sqlite3

# Of what it holds this much is in memory, in KiB; the rest lies in a temporary file without a name.
_CACHE = 8000


class SpilledMap:
    """Texts by text; it lives as long as the object, in a temporary file where it is large."""

    def __init__(self) -> None:
        self._file = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._file.executescript(
            f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -{_CACHE};"
            "CREATE TABLE held (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;"
        )

    def get(self, name: str) -> str | None:
        """The text under `name`, or None."""
        found = self._file.execute("SELECT value FROM held WHERE name = ?", (name,)).fetchone()
        return None if found is None else str(found[0])

    def put(self, name: str, value: str) -> None:
        """Set the text under `name`."""
        self._file.execute("INSERT OR REPLACE INTO held VALUES (?, ?)", (name, value))

    def add(self, name: str, value: str = "") -> bool:
        """Set the text under `name` where there is none; whether that was so."""
        done = self._file.execute("INSERT OR IGNORE INTO held VALUES (?, ?)", (name, value))
        return done.rowcount > 0
