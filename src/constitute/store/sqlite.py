"""The run directory's one SQLite file: answers, attempts, outcomes and notes, each on disk when acknowledged.

WAL with synchronous=NORMAL: what was committed survives a killed process; a power cut may lose the last
moments, never the file's consistency.
"""

from __future__ import annotations

import json
import shlex
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from constitute.errors import DataError, RunMismatch, UsageError
from constitute.files import file_in_the_way
from constitute.store import lock
from constitute.store.connection import connect, damaged, readable, storage
from constitute.types import Outcome, Record, Status

# Row id, position, status, reason, data.
_Columns = tuple[str, int, Status, str | None, str | None]
_R = TypeVar("_R", bound=Record)

SCHEMA_VERSION = 1
FILE_NAME = "run.sqlite"
_PAGE = 1000

_SCHEMA = """
CREATE TABLE answers (
  key TEXT PRIMARY KEY, stage TEXT NOT NULL, row_id TEXT NOT NULL,
  request TEXT NOT NULL, answer TEXT NOT NULL
) STRICT;
CREATE INDEX answers_of_row ON answers (row_id);
CREATE TABLE attempts (
  id INTEGER PRIMARY KEY, key TEXT NOT NULL, stage TEXT NOT NULL, row_id TEXT NOT NULL,
  reason TEXT NOT NULL, answer TEXT
) STRICT;
CREATE TABLE outcomes (
  stage TEXT NOT NULL, row_id TEXT NOT NULL, position INTEGER NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('ok', 'abstain', 'failed')),
  reason TEXT, data TEXT, input_hash TEXT NOT NULL,
  PRIMARY KEY (stage, row_id)
) STRICT;
CREATE INDEX outcomes_by_position ON outcomes (stage, position, row_id);
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""
# Rows are counted, and the ok ones found in their order, without reading what the others hold. Files written
# before there was this index get it when a run next writes to them, and are read without it.
_BY_STATUS = """
CREATE INDEX IF NOT EXISTS outcomes_by_status ON outcomes (stage, status, position, row_id)
"""

_REFUSED = """
CREATE TEMP TABLE refused AS
SELECT stage, row_id, reason, max(id) AS id FROM main.attempts WHERE answer IS NOT NULL GROUP BY 1, 2, 3
"""
_REFUSED_INDEX = "CREATE UNIQUE INDEX temp.refused_of ON refused (stage, row_id, reason)"


class Store:
    """A run's rows. One process writes; others may read at the same time with `readonly=True`.

    A store may be handed from thread to thread, and is used by one at a time.

    Every method raises `StorageError` when the disk refuses; what was acknowledged before is kept.
    """

    def __init__(self, folder: Path, connection: sqlite3.Connection, writes: bool) -> None:
        self.folder = folder
        self._path = folder / FILE_NAME
        self.notices: list[str] = []
        self._connection = connection
        self._writes = writes
        self._open = True
        self._reuses = False
        self._listed = False
        self._tables: set[str] = set()

    @classmethod
    def open(cls, run_dir: Path | str, create: bool = True, readonly: bool = False) -> Store:
        """Open the store of `run_dir`; `create` makes directory and file where they are missing.

        Raises `UsageError` where there is no run, `RunMismatch` for another process's or a newer
        version's run, `StorageError` where the disk refuses.
        """
        folder = Path(run_dir)
        path = folder / FILE_NAME
        if (file := file_in_the_way(folder)) is not None:
            raise UsageError(f"{file} is a file; give a folder")
        if not path.is_file() and (readonly or not create):
            raise UsageError(
                f"no run in {folder} (no {FILE_NAME}); `constitute generate --run "
                f"{shlex.quote(str(folder))}` makes one"
            )
        with storage(path):
            folder.mkdir(parents=True, exist_ok=True)
        if not readonly:
            lock.acquire(folder)
        try:
            store = cls(folder, connect(path, readonly), not readonly)
            store._prepare()
        except BaseException:
            if not readonly:
                lock.release(folder)
            raise
        return store

    def _prepare(self) -> None:
        path = self._path
        with storage(path):
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
            if version > SCHEMA_VERSION:
                raise RunMismatch(
                    f"{path} was written by a newer constitute (schema {version}, this one reads "
                    f"{SCHEMA_VERSION}); upgrade constitute or give another --run DIR"
                )
            if version == 0 and self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise damaged(path, "a database of something else")
            if not self._writes:
                if version == 0:
                    raise UsageError(f"no run in {self.folder} ({FILE_NAME} is empty); start it again")
                return
            self._set_journal()
            if version == 0:
                script = f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
                self._connection.executescript(script)
            self._connection.execute(_BY_STATUS)

    def _set_journal(self) -> None:
        """Use WAL; on a filesystem without shared memory, a rollback journal and a notice."""
        try:
            mode = self._connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as problem:
            if "lock" not in str(problem):
                raise
            mode = "none"
        if mode == "wal":
            self._connection.execute("PRAGMA synchronous = NORMAL")
            return
        self._connection.execute("PRAGMA journal_mode = DELETE")
        self._connection.execute("PRAGMA synchronous = FULL")
        self.notices.append(
            f"{self.folder} is on a filesystem without SQLite's WAL mode: writes there are slower; "
            "a local disk is faster"
        )

    def close(self) -> None:
        """Close the file and give the lock back; twice is harmless."""
        if self._open:
            self._open = False
            self._connection.close()
            if self._writes:
                lock.release(self.folder)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def reuse(self, run_dir: Path | str) -> None:
        """Answer from another run too: what it knows is copied when it is first asked for.

        The key of an answer holds all that it depends on, so an answer of another run under the same
        key is the same answer. Raises `UsageError` where there is no run, or it is this one.
        """
        path = Path(run_dir) / FILE_NAME
        if not path.is_file():
            raise UsageError(f"no run to reuse in {run_dir} (no {FILE_NAME}); give the directory of a run")
        if path.resolve() == self._path.resolve():
            raise UsageError(f"{run_dir} cannot reuse itself; give another --run DIR for the new rows")
        with storage(path), readable(path) as uri:
            self._connection.execute("ATTACH DATABASE ? AS earlier", (uri,))
            self._connection.execute("SELECT 1 FROM earlier.answers LIMIT 1").fetchone()
        self._reuses = True

    def take_outcomes(self) -> None:
        """Copy how rows ended, and every note, from the run whose answers are used."""
        for table in ("outcomes", "meta"):
            self._write(f"INSERT OR REPLACE INTO main.{table} SELECT * FROM earlier.{table}", ())

    def mean_answer_tokens(self) -> float | None:
        """The mean number of tokens of completions; None where there are none."""
        query = (
            "SELECT avg(json_array_length(answer, '$.token_ids')) FROM main.answers "
            "WHERE json_type(answer, '$.finish_reason') = 'text'"
        )
        found: float | None = self._one(query)[0]
        return found

    def answer(self, key: str) -> dict[str, Any] | None:
        """The stored answer to the question `key`, or None."""
        query = "SELECT answer FROM main.answers WHERE key = ?"
        row = self._one(query, key)
        if row is None and self._reuses:
            copy = "INSERT OR IGNORE INTO main.answers SELECT * FROM earlier.answers WHERE key = ?"
            self._write(copy, (key,))
            row = self._one(query, key)
        return None if row is None else self._value(row[0])

    async def known(self, key: str) -> dict[str, Any] | None:
        """`answer`, for whoever may be given a store that has to ask elsewhere."""
        return self.answer(key)

    async def acknowledged(self) -> None:
        """Return when everything written so far is on disk: here it is when the write returns."""

    def apply(self, writes: Iterable[tuple[str, tuple[Any, ...]]]) -> None:
        """Commit statements of another process's store together, all or none."""
        with storage(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                for query, values in writes:
                    self._connection.execute(query, values)
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def put_answer(self, key: str, stage: str, row_id: str, request: dict[str, Any], answer: Any) -> None:
        """Commit an answer; the first one under a key stays."""
        self._write(
            "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?)",
            (key, stage, row_id, _dumps(request), _dumps(answer)),
        )

    def answers_of(self, row_id: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
        """(stage, request, answer) of everything asked for `row_id`, in the order answered."""
        query = "SELECT stage, request, answer FROM answers WHERE row_id = ? ORDER BY rowid"
        for stage, request, answer in self._all(query, row_id):
            yield stage, self._value(request), self._value(answer)

    def add_attempt(
        self, key: str, stage: str, row_id: str, reason: str, answer: dict[str, Any] | None = None
    ) -> None:
        """Commit a question that got no usable answer: an error, a truncation, something unparsed."""
        self._write(
            "INSERT INTO attempts (key, stage, row_id, reason, answer) VALUES (?, ?, ?, ?, ?)",
            (key, stage, row_id, reason, None if answer is None else _dumps(answer)),
        )

    def attempts_of(self, row_id: str) -> list[tuple[str, str, dict[str, Any] | None]]:
        """(stage, reason, answer) of every attempt for `row_id`, oldest first."""
        query = "SELECT stage, reason, answer FROM attempts WHERE row_id = ? ORDER BY id"
        return [(s, r, None if a is None else self._value(a)) for s, r, a in self._all(query, row_id)]

    def attempted(self, stage: str, row_id: str, reason: str) -> dict[str, Any] | None:
        """The last answer that was refused for `reason`, or None where the row has none."""
        if not self._listed:
            # The table of attempts has no index by row, and a finished run is not written to: a temporary
            # one of the ids is made once.
            self._all(_REFUSED)
            self._all(_REFUSED_INDEX)
            self._listed = True
        query = (
            "SELECT answer FROM main.attempts WHERE id = "
            "(SELECT id FROM temp.refused WHERE stage = ? AND row_id = ? AND reason = ?)"
        )
        row = self._one(query, stage, row_id, reason)
        return None if row is None else self._value(row[0])

    def put_outcome(self, stage: str, outcome: Outcome, input_hash: str = "") -> None:
        """Commit how a row ended, in place of any earlier ending; `input_hash` says what it was given."""
        data = None if outcome.data is None else _dumps(outcome.data)
        self._write(
            "INSERT OR REPLACE INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?)",
            (stage, outcome.row_id, outcome.position, outcome.status, outcome.reason, data, input_hash),
        )

    def forget(self, stage: str) -> None:
        """Forget how the rows of a stage ended: only for one whose rows follow from those before it."""
        self._write("DELETE FROM outcomes WHERE stage = ?", (stage,))

    def outcome(self, stage: str, row_id: str) -> Outcome | None:
        """How a row ended in a stage, or None while it has not."""
        found = self.ended(stage, row_id)
        return None if found is None else found[0]

    def ended(self, stage: str, row_id: str) -> tuple[Outcome, str] | None:
        """How a row ended in a stage and the `input_hash` noted with it, or None while it has not."""
        query = f"SELECT {_COLUMNS}, input_hash FROM outcomes WHERE stage = ? AND row_id = ?"
        row = self._one(query, stage, row_id)
        return None if row is None else (self._outcome(row[:-1]), row[-1])

    def outcomes(self, stage: str, status: Status | None = None) -> Iterator[Outcome]:
        """A stage's outcomes by position; read in pages, so that writing may go on meanwhile."""
        return map(self._outcome, self._pages(stage, status))

    def _pages(self, stage: str, status: Status | None) -> Iterator[_Columns]:
        last: tuple[int, str] = (-1, "")
        which = "" if status is None else "AND status = ?"
        query = (
            f"SELECT {_COLUMNS} FROM outcomes WHERE stage = ? AND (position, row_id) > (?, ?) {which} "
            f"ORDER BY position, row_id LIMIT {_PAGE}"
        )
        more = True
        while more:
            page = self._all(query, stage, *last, *([] if status is None else [status]))
            if more := len(page) == _PAGE:
                last = (page[-1][1], page[-1][0])
            yield from page
            # Gone before the next one comes: one page is in memory, not two.
            page.clear()

    def records(self, stage: str, kind: type[_R]) -> Iterator[_R]:
        """The records of a stage's ok rows by position, as `outcomes`. Raises `DataError` for damage."""
        for row_id, _, _, _, data in self._pages(stage, "ok"):
            try:
                yield kind.model_validate_json(data or "null")
            except ValidationError as problem:
                raise self.damaged_row(row_id, problem) from None

    def spaced(self, stage: str, places: Sequence[int]) -> list[Outcome]:
        """The ok outcomes of a stage at these places among them, by position."""
        query = (
            f"SELECT {_COLUMNS} FROM outcomes WHERE stage = ? AND row_id IN (SELECT row_id FROM "
            "(SELECT row_id, row_number() OVER (ORDER BY position, row_id) - 1 AS place FROM outcomes "
            "WHERE stage = ? AND status = 'ok') WHERE place IN (SELECT value FROM json_each(?))) "
            "ORDER BY position, row_id"
        )
        return [self._outcome(row) for row in self._all(query, stage, stage, _dumps(list(places)))]

    def damaged_row(self, row_id: str, problem: ValidationError) -> DataError:
        """The error for a row whose record is not what its stage makes."""
        field = ".".join(map(str, problem.errors()[0]["loc"]))
        return DataError(
            f"{self.folder}: the stored row {row_id!r} is damaged at {field or 'its root'}; "
            "restore the run directory from a copy, or start the run anew"
        )

    def counts(self, stage: str) -> dict[str, int]:
        """Rows by status, with all three statuses present."""
        found = dict(self._all("SELECT status, count(*) FROM outcomes WHERE stage = ? GROUP BY 1", stage))
        return {status: found.get(status, 0) for status in ("ok", "abstain", "failed")}

    def reasons(self, stage: str) -> list[tuple[Status, str, int]]:
        """(status, reason, rows) of the rows that are not ok, commonest first."""
        query = (
            "SELECT status, coalesce(reason, ''), count(*) FROM outcomes "
            "WHERE stage = ? AND status IN ('abstain', 'failed') GROUP BY 1, 2 ORDER BY 3 DESC, 2"
        )
        return self._all(query, stage)

    def stamp(self, stage: str) -> list[Any]:
        """What changes whenever a row of the stage is written, replaced or forgotten."""
        # A row that is replaced gets a new rowid, the highest of all.
        return list(self._one("SELECT count(*), max(rowid) FROM outcomes WHERE stage = ?", stage))

    def empty(self) -> bool:
        """Whether no answer is kept and no row has ended."""
        query = "SELECT 1 FROM answers UNION ALL SELECT 1 FROM outcomes LIMIT 1"
        return self._one(query) is None

    def stages(self) -> list[str]:
        """Names of the stages that have outcomes, in the order they were first written."""
        query = "SELECT stage FROM outcomes GROUP BY stage ORDER BY min(rowid)"
        return [row[0] for row in self._all(query)]

    def row_ids(self, prefix: str = "", limit: int = 1000) -> list[str]:
        """Distinct row ids that start with `prefix`, sorted, at most `limit`."""
        query = "SELECT DISTINCT row_id FROM outcomes WHERE substr(row_id, 1, ?) = ? ORDER BY 1 LIMIT ?"
        return [row[0] for row in self._all(query, len(prefix), prefix, limit)]

    def find(self, row_id: str, *prefixes: str) -> list[tuple[str, Outcome]]:
        """(stage, outcome) of the row and of every row whose id starts with a prefix, by position."""
        more = "OR substr(row_id, 1, ?) = ? " * len(prefixes)
        query = f"SELECT stage, {_COLUMNS} FROM outcomes WHERE row_id = ? {more} ORDER BY position, rowid"
        stems = [value for prefix in prefixes for value in (len(prefix), prefix)]
        return [(row[0], self._outcome(row[1:])) for row in self._all(query, row_id, *stems)]

    def put_meta(self, name: str, value: Any) -> None:
        """Commit a JSON-ready note under `name`."""
        self._write("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, _dumps(value)))

    def meta(self, name: str) -> Any:
        """The note under `name`, or None."""
        row = self._one("SELECT value FROM meta WHERE name = ?", name)
        return None if row is None else self._value(row[0])

    def has_table(self, name: str) -> bool:
        """Whether the file has a table that only some runs have."""
        if name not in self._tables:
            found = self._one("SELECT 1 FROM main.sqlite_master WHERE type = 'table' AND name = ?", name)
            self._tables |= {name} if found else set()
        return name in self._tables

    def read(self, query: str, *values: Any) -> list[Any]:
        """All rows of a query, for the modules of this folder."""
        return self._all(query, *values)

    def write(self, query: str, *values: Any) -> None:
        """Commit a statement, for the modules of this folder."""
        self._write(query, values)

    def define(self, name: str, function: Callable[[str], str]) -> None:
        """Let queries of the modules of this folder call a function of a text."""
        self._connection.create_function(name, 1, function, deterministic=True)

    def notes(self, prefix: str) -> dict[str, Any]:
        """The notes whose names start with `prefix`, in the order they were last written."""
        query = "SELECT name, value FROM meta WHERE substr(name, 1, ?) = ? ORDER BY rowid"
        return {name: self._value(text) for name, text in self._all(query, len(prefix), prefix)}

    def _outcome(self, row: _Columns) -> Outcome:
        row_id, position, status, reason, data = row
        decoded = None if data is None else self._value(data)
        try:
            return Outcome(row_id=row_id, position=position, status=status, reason=reason, data=decoded)
        except ValidationError as problem:
            raise damaged(self._path, f"row {row_id!r}: {problem.errors()[0]['msg']}") from None

    def _value(self, text: str) -> Any:
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as problem:
            raise damaged(self._path, f"a value is not JSON: {problem}") from None

    def _one(self, query: str, *values: Any) -> Any:
        # Asked once for every row of a resumed run: a context manager would cost as much as the query.
        try:
            return self._connection.execute(query, values).fetchone()
        except sqlite3.DatabaseError:
            with storage(self._path):
                raise

    def _all(self, query: str, *values: Any) -> list[Any]:
        with storage(self._path):
            return self._connection.execute(query, values).fetchall()

    def _write(self, query: str, values: tuple[Any, ...]) -> None:
        with storage(self._path):
            self._connection.execute(query, values)


_COLUMNS = "row_id, position, status, reason, data"


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
