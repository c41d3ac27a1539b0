"""Make one run of several that were made with the same settings from different prompts or pairs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from constitute.config import load_config
from constitute.errors import DataError, UsageError
from constitute.files import atomic_folder, read_json
from constitute.pipeline.budget import SPENT, Spent
from constitute.pipeline.shards import PLACES, check_whole, shard_stages
from constitute.store import Store
from constitute.store.manifest import (
    CONFIG_FILE,
    MANIFEST_FILE,
    kept_constitution,
    save_config,
    settings_noted,
    write_manifest,
)
from constitute.store.merge import check_same, gather, place
from constitute.store.unfinished import UNFINISHED
from constitute.types import Record


class Merged(Record):
    """What became of the runs: rows by stage and status, and stages of evals that were left out.

    `shards`: the runs were that many shards of one, checked to be whole; 0 where they were none.
    """

    counts: dict[str, dict[str, int]]
    left_out: tuple[str, ...] = ()
    shards: int = 0
    warnings: tuple[str, ...] = ()


def merge_runs(runs: Sequence[Path], out: Path) -> Merged:
    """Write `out`, a run with the rows of all `runs`; whole or not at all.

    Rows that are equal in several runs are there once. The order of rows follows from their places and ids,
    not from the order of `runs`. Raises `UsageError` for fewer than two runs and where `out` exists,
    `RunMismatch` for other settings, for different rows of one id, and for shards that are not all of a run:
    one missing, twice, unfinished, of other input, or with rows of another.
    """
    runs = sorted(set(runs), key=str)
    if len({run.resolve() for run in runs}) < 2:
        raise UsageError("merge needs at least two different runs; give the directories of all of them")
    if os.path.lexists(out):
        raise UsageError(f"{out} exists already; give --out a new directory")
    with ExitStack() as opened:
        sources = {str(run): opened.enter_context(Store.open(run, readonly=True)) for run in runs}
        every = list(dict.fromkeys(stage for store in sources.values() for stage in store.stages()))
        stages = [stage for stage in every if "/" not in stage]
        check_same(sources, stages)
        notes = _notes(list(sources.values()), stages)
        of = [check_whole(sources, stage, own=_own(notes, stage)) for stage in shard_stages(sources)]
        warnings = _on_days(sources)
        with atomic_folder(out) as folder:
            with Store.open(folder) as store:
                for run in runs:
                    gather(store, run)
                place(store, stages, [stage for stage in stages if _own(notes, stage)], PLACES)
                for name, value in notes.items():
                    store.put_meta(name, value)
                _describe(store, runs, out)
                counts = {stage: store.counts(stage) for stage in store.stages()}
            (folder / "run.lock").unlink(missing_ok=True)
    return Merged(
        counts=counts,
        left_out=tuple(stage for stage in every if "/" in stage),
        shards=max(of, default=0),
        warnings=tuple(warnings),
    )


def _on_days(sources: Mapping[str, Store]) -> list[str]:
    """A warning where runs began on different days, which some chat templates write into each prompt."""
    days = {name: day for name, store in sources.items() if isinstance(day := store.meta("date"), str)}
    if len(set(days.values())) < 2:
        return []
    first, last = min(days, key=lambda name: days[name]), max(days, key=lambda name: days[name])
    return [
        f"{first} has the day {days[first]} and {last} the day {days[last]}: rows of a model whose chat "
        "template writes the day differ from those of one run; engine.date gives all runs one day"
    ]


def _notes(sources: Sequence[Store], stages: Sequence[str]) -> dict[str, object]:
    """The notes of the merged run: what its stages were made with, and what is known of its runs together."""
    notes: dict[str, object] = {}
    for stage in stages:
        noted = (settings_noted(store, stage) for store in sources)
        notes[f"stage:{stage}"] = next((each for each in noted if each is not None), None)
        notes[UNFINISHED + stage] = any(store.meta(UNFINISHED + stage) for store in sources)
    for name in ("created", "date"):
        if found := [value for store in sources if isinstance(value := store.meta(name), str)]:
            notes[name] = min(found)
    spent = Spent()
    for store in sources:
        spent = spent.plus(Spent.model_validate(store.meta(SPENT) or {}))
    return {**notes, SPENT: spent.model_dump()}


def _own(notes: dict[str, object], stage: str) -> bool:
    """Whether the stage labelled pairs of one's own, which belong to no prompt's samples."""
    settings = notes.get(f"stage:{stage}")
    section = settings.get(stage) if isinstance(settings, dict) else None
    return isinstance(section, dict) and section.get("pairs") == "own"


def _describe(store: Store, runs: Sequence[Path], out: Path) -> None:
    """Write configuration and manifest, as the first run that has them."""
    first = next((run for run in runs if (run / CONFIG_FILE).is_file()), None)
    if first is None:
        return
    config = load_config(first / CONFIG_FILE).model_copy(update={"shard": None})
    constitution = None
    for run in runs:
        try:
            constitution = constitution or kept_constitution(read_json(run / MANIFEST_FILE))
        except (DataError, UsageError):
            continue
    path = save_config(store.folder, config)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(str(store.folder.resolve()), str(out.resolve())), encoding="utf-8")
    write_manifest(store, config, constitution)
    manifest = store.folder / MANIFEST_FILE
    said = manifest.read_text(encoding="utf-8")
    manifest.write_text(said.replace(str(store.folder.resolve()), str(out.resolve())), encoding="utf-8")
