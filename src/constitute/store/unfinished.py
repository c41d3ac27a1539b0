"""The store's note of a stage that began and has not seen every row it was given."""

from __future__ import annotations

from collections.abc import Mapping

from constitute.progress import Progress
from constitute.store import Store
from constitute.types import Record

# Before a stage's name: `{"rows": 16}` (null where the number is not known) from its start, false at its end.
UNFINISHED = "unfinished:"


class Unfinished(Record):
    """A stage that stopped early: rows that ended, of how many; `rows` is None where that is not known."""

    stage: str
    done: int
    rows: int | None

    @property
    def sentence(self) -> str:
        """What is missing and what to type."""
        seen = f": {self.done} of {self.rows} rows" if self.rows is not None and self.done < self.rows else ""
        return f"{self.stage}{seen}, unfinished: run `constitute {self.stage}` again"


def begin(store: Store, stage: str, rows: int | None) -> None:
    """Note that `stage` began on `rows` rows."""
    store.put_meta(UNFINISHED + stage, {"rows": rows})


def end(store: Store, stage: str) -> None:
    """Note that `stage` saw every row."""
    store.put_meta(UNFINISHED + stage, False)


def saw_every_row(store: Store, stage: str) -> bool:
    """Whether `stage` has run to its end; more rows may have been given to it since."""
    return store.meta(UNFINISHED + stage) is False


def unfinished(store: Store) -> list[Unfinished]:
    """The stages that stopped early, also those of which no row ended."""
    found = []
    for name, noted in store.notes(UNFINISHED).items():
        if noted:
            stage = name.removeprefix(UNFINISHED)
            # Earlier versions noted `true` alone.
            rows = noted.get("rows") if isinstance(noted, Mapping) else None
            done = sum(store.counts(stage).values())
            found.append(Unfinished(stage=stage, done=done, rows=rows if isinstance(rows, int) else None))
    return found


def unfinished_stage(store: Store, stage: str) -> Unfinished | None:
    """As `unfinished`, of one stage."""
    return next((each for each in unfinished(store) if each.stage == stage), None)


def warn_unfinished(store: Store, stage: str, progress: Progress) -> None:
    """Tell whoever reads a stage's rows that some are missing."""
    if (found := unfinished_stage(store, stage)) is not None:
        progress.note(f"warning: {found.sentence}; {store.folder} holds only a part of its rows")
