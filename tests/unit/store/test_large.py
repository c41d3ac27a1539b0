"""Reading a run takes work in proportion to its rows, and memory that does not grow with them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from constitute.config import ExportConfig
from constitute.data.export import export_run
from constitute.data.query import RowFilter, find_rows
from constitute.report.build import write_report
from constitute.stages.card import card_of, note_card
from constitute.store import Store
from constitute.types import (
    Comparison,
    CritiqueRevision,
    LabelledPair,
    Message,
    Outcome,
    PreferenceLabel,
    PrincipleVote,
    Prompt,
    Response,
)

SMALL, LARGE = 2000, 8000


def write_run(folder: Path, rows: int) -> Path:
    """Prompts with a response, a revision and a label of two votes; every tenth pair abstained."""
    with Store.open(folder) as store:
        store.write("BEGIN")
        for at in range(rows):
            # pydantic keeps the last 16,384 texts of fewer than 64 characters.
            name = f"p{at:070}"
            asked = Prompt(id=name, messages=(Message(role="user", content=f"Ask {name} of it."),))
            step = CritiqueRevision(
                principle_id=f"p{at % 3}", critique="It is rude.", revision=f"b {name} c d"
            )
            row = Response(id=f"{name}/0", prompt=asked, sample=0, response=f"a {name} c")
            revised = row.model_copy(update={"steps": (step,)})
            pair = Comparison(
                id=f"{name}/0-rev",
                prompt=asked,
                a=row.response,
                b=step.revision,
                a_source="response",
                b_source="revision 1",
            )
            votes = tuple(
                PrincipleVote(
                    principle_id=under, weight=1, p_ab=at % 7 / 7, p_ba=at % 5 / 5, mass_ab=0.9, mass_ba=0.8
                )
                for under in ("p0", "p1")
            )
            label = PreferenceLabel(p_a=votes[0].p_a, votes=votes)
            put(store, "generate", at, row)
            put(store, "revise", at, revised)
            if at % 10:
                put(store, "label", at, LabelledPair(id=pair.id, comparison=pair, label=label))
            else:
                ended = Outcome(row_id=pair.id, position=at * 1024, status="abstain", reason="no mass")
                store.put_outcome("label", ended)
        store.write("COMMIT")
    return folder


def put(store: Store, stage: str, at: int, row: Response | LabelledPair) -> None:
    data = row.model_dump(mode="json")
    store.put_outcome(stage, Outcome(row_id=row.id, position=at * 1024, status="ok", data=data))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("large")
    return {rows: write_run(folder / str(rows), rows) for rows in (SMALL, LARGE)}


def status(run: Path, out: Path) -> None:
    with Store.open(run, readonly=True) as store:
        for stage in store.stages():
            store.counts(stage)
            store.reasons(stage)
        card_of(store)


def export(run: Path, out: Path) -> None:
    export_run(run, ExportConfig(), out=out)


def report(run: Path, out: Path) -> None:
    write_report(run, out / "report.html")


def rows(run: Path, out: Path) -> None:
    with Store.open(run, readonly=True) as store:
        for _ in find_rows(store, RowFilter()):
            pass
        list(find_rows(store, RowFilter(worst=20)))


READERS: list[Callable[[Path, Path], None]] = [status, export, report, rows]


class Steps:
    """Counts the virtual machine steps of SQLite, by hundreds, and the statements of every connection."""

    def __init__(self) -> None:
        self.steps = self.statements = 0

    def watch(self, connection: Any) -> None:
        connection.set_progress_handler(self._step, 100)
        connection.set_trace_callback(self._statement)

    def _step(self) -> int:
        self.steps += 1
        return 0

    def _statement(self, text: str) -> None:
        self.statements += 1


@pytest.mark.parametrize("read", READERS)
def test_the_work_of_sqlite_grows_with_the_rows_and_no_faster(
    read: Callable[[Path, Path], None],
    runs: dict[int, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work = {}
    opened = Store.open
    for number, run in runs.items():
        counted = Steps()

        def watched(*given: Any, counted: Steps = counted, **more: Any) -> Store:
            store = opened(*given, **more)
            counted.watch(store._connection)
            return store

        monkeypatch.setattr(Store, "open", watched)
        read(run, tmp_path)
        work[number] = counted
    # 4 times the rows: linear is 4, quadratic 16. No statement is made for each row.
    assert work[LARGE].steps < 4.4 * work[SMALL].steps
    assert work[LARGE].statements - work[SMALL].statements < (LARGE - SMALL) / 50
    assert work[SMALL].statements > 3


@pytest.mark.parametrize("read", READERS)
def test_memory_does_not_grow_with_the_rows(
    read: Callable[[Path, Path], None], runs: dict[int, Path], tmp_path: Path
) -> None:
    peaks = {}
    read(runs[SMALL], tmp_path)  # what is imported and cached
    for number, run in runs.items():
        tracemalloc.start()
        read(run, tmp_path)
        peaks[number] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # 6000 more rows of 1 KB and more, of which 8 bytes each may be kept.
    assert peaks[LARGE] < 1.3 * peaks[SMALL]


def test_a_noted_card_is_the_card_until_a_row_changes(runs: dict[int, Path], tmp_path: Path) -> None:
    run = write_run(tmp_path, 20)
    with Store.open(run) as store:
        first = card_of(store)
        note_card(store)
        store.put_meta(
            "label card", {**store.meta("label card"), "card": {**first.model_dump(), "votes": 999}}
        )
        assert card_of(store).votes == 999  # it is read, not counted
        found = store.outcome("label", f"p{1:070}/0-rev")
        assert found is not None
        store.put_outcome("label", found.model_copy(update={"status": "failed", "data": None}))
        assert (card_of(store).pairs, card_of(store).failed) == (first.pairs - 1, 1)
        note_card(store)
        store.forget("label")
        assert card_of(store).pairs == 0


def test_rows_found_by_place_are_the_ok_ones_in_their_order(runs: dict[int, Path]) -> None:
    with Store.open(runs[SMALL], readonly=True) as store:
        every = [outcome.row_id for outcome in store.outcomes("label", "ok")]
        assert [each.row_id for each in store.spaced("label", [0, 7, 1799])] == [
            every[at] for at in (0, 7, 1799)
        ]
        assert store.spaced("label", [1800]) == []
