"""Put the rows, answers and notes of several runs into one store, in an order that the rows alone decide."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from constitute.errors import RunMismatch, UsageError
from constitute.store import mended
from constitute.store.connection import readable, storage
from constitute.store.manifest import differences, settings_noted
from constitute.store.sqlite import FILE_NAME, Store

# Rows named in a refusal.
_MOST = 5
_SAMPLE = re.compile(r"(.+)/\d+(?:-.*)?", re.DOTALL)
_GATHERED = """
CREATE TEMP TABLE gathered (
  stage TEXT, row_id TEXT, position INTEGER, status TEXT, reason TEXT, data TEXT, input_hash TEXT,
  PRIMARY KEY (stage, row_id)
)
"""
# The stages of data are named by a word, those of evals by a path; the latter belong to their own files.
_DATA = "instr({}stage, '/') = 0"


def check_same(runs: Mapping[str, Store], stages: Collection[str]) -> None:
    """Raise `RunMismatch` where two runs made the rows of a stage with other settings."""
    for stage in stages:
        first: tuple[str, Any] | None = None
        for name, store in runs.items():
            noted = settings_noted(store, stage)
            if noted is None:
                continue
            if first is None:
                first = name, noted
            elif changed := differences(first[1], noted):
                raise RunMismatch(
                    f"{first[0]} and {name} made their {stage} rows with other settings: {changed}; only "
                    "runs of the same settings are one run"
                )


def gather(store: Store, run: Path) -> None:
    """Copy a run's answers and attempts, and set its rows aside until `place` puts them in order.

    A row that is there already must be equal. Raises `RunMismatch` with the ids of those that are not.
    """
    if not store.read("SELECT 1 FROM temp.sqlite_master WHERE name = 'gathered'"):
        store.write(_GATHERED)
    with _attached(store, run):
        _refuse_different(store, run)
        data = _DATA.format("o.")
        store.write(
            "INSERT INTO main.attempts (key, stage, row_id, reason, answer) "
            f"SELECT key, stage, row_id, reason, answer FROM other.attempts o WHERE {data} AND NOT EXISTS "
            "(SELECT 1 FROM gathered g WHERE g.stage = o.stage AND g.row_id = o.row_id) ORDER BY id"
        )
        store.write(
            "INSERT OR IGNORE INTO main.answers SELECT key, stage, row_id, request, answer "
            f"FROM other.answers o WHERE {data} ORDER BY o.rowid"
        )
        store.write(
            "INSERT INTO gathered SELECT stage, row_id, position, status, reason, data, input_hash "
            f"FROM other.outcomes o WHERE {data} ON CONFLICT (stage, row_id) "
            "DO UPDATE SET position = min(position, excluded.position)"
        )
        if store.read("SELECT 1 FROM other.sqlite_master WHERE name = 'mended'"):
            mended.make_table(store)
            store.write("INSERT OR IGNORE INTO main.mended SELECT * FROM other.mended")


def place(store: Store, stages: Collection[str], own: Collection[str], places: int) -> None:
    """Write the gathered rows, prompts by their place in their own run and then by their id.

    A prompt's rows lie within `places` positions; those of the stages in `own` have one position each.
    """
    store.define("prompt_of", _prompt_of)
    listed = ", ".join("?" for _ in own)
    store.write(
        "CREATE TEMP TABLE places AS SELECT name, row_number() OVER (ORDER BY old, name) - 1 AS place FROM "
        f"(SELECT prompt_of(row_id) AS name, min(position / {places}) AS old FROM gathered "
        f"WHERE stage NOT IN ({listed}) GROUP BY 1)",
        *own,
    )
    store.write("CREATE UNIQUE INDEX temp.place_of ON places (name)")
    columns = "g.status, g.reason, g.data, g.input_hash"
    for stage in stages:
        if stage in own:
            at, joined = "row_number() OVER (ORDER BY g.position, g.row_id) - 1", ""
        else:
            at = f"p.place * {places} + g.position % {places}"
            joined = "JOIN places p ON p.name = prompt_of(g.row_id)"
        store.write(
            f"INSERT INTO main.outcomes SELECT g.stage, g.row_id, {at}, {columns} FROM gathered g {joined} "
            "WHERE g.stage = ? ORDER BY 3, 2",
            stage,
        )


def _refuse_different(store: Store, run: Path) -> None:
    found = store.read(
        "SELECT g.stage, g.row_id FROM gathered g JOIN other.outcomes o USING (stage, row_id) "
        "WHERE (g.status, g.reason, g.data, g.input_hash) IS NOT (o.status, o.reason, o.data, o.input_hash) "
        "ORDER BY 1, 2"
    )
    if found:
        names = ", ".join(f"{row_id} of {stage}" for stage, row_id in found[:_MOST])
        more = f" and {len(found) - _MOST} more" if len(found) > _MOST else ""
        raise RunMismatch(
            f"{len(found)} rows of {run} are in another of the runs too, and differ: {names}{more}; give "
            "runs of different prompts, or leave one of the runs out"
        )


@contextmanager
def _attached(store: Store, run: Path) -> Iterator[None]:
    path = run / FILE_NAME
    if not path.is_file():
        raise UsageError(f"no run in {run} (no {FILE_NAME}); give the directory of a run")
    with storage(path), readable(path) as uri:
        store.write("ATTACH DATABASE ? AS other", uri)
        try:
            yield
        finally:
            store.write("DETACH DATABASE other")


def _prompt_of(row_id: str) -> str:
    """The id of the prompt that a row of a chain was made from."""
    match = _SAMPLE.fullmatch(row_id)
    return match[1] if match else row_id
