"""A run made in N shards: the rows that one takes, what it notes of them, and whether N of them are whole."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from constitute.config import RunConfig, Shard
from constitute.errors import DataError, RunMismatch, UsageError
from constitute.pipeline.drive import Identified, input_hash
from constitute.store import Store
from constitute.store.spill import SpilledMap
from constitute.store.unfinished import unfinished_stage
from constitute.types import Record

# A prompt's samples have places of their own in the order of rows, however many are asked for later.
PLACES = 1024
# Before a stage's name in the store's notes.
_NOTED = "shard:"
# Shards and rows that a refusal names.
_MOST = 5
_R = TypeVar("_R", bound=Identified)


class Noted(Record):
    """The shard that a stage's rows are, and the input it was cut from: its rows, and their SHA-256.

    Where the stage reads rows that were not cut into shards, `rows` and `sha256` are None.
    """

    shard: Shard
    rows: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Part:
    """A shard's rows of an input, with their places in all of it; `noted` says what they were cut from."""

    rows: list[Any]
    places: Sequence[int]
    noted: Noted
    digests: Mapping[int, str]
    """SHA-256 of the first n rows, by n: of those that a note was made of before."""


def distinct(rows: Iterable[_R]) -> Iterable[_R]:
    """The rows; raises `DataError` at the second of one id."""
    seen = SpilledMap()
    for row in rows:
        if not seen.add(row.id):
            raise DataError(f"two prompts have the id {row.id!r}; give each prompt an id of its own")
        yield row


def cut(config: RunConfig, rows: Iterable[Identified], before: Collection[int] = ()) -> Part:
    """The shard of the first `config.limit` rows; `before` holds lengths to take digests at."""
    shard, digest, digests = config.shard, hashlib.sha256(), {}
    assert shard is not None
    kept: list[Any] = []
    number = 0
    for number, row in enumerate(distinct(islice(rows, config.limit)), 1):
        digest.update(f"{input_hash(row)} {row.id}\n".encode("utf-8", "surrogatepass"))
        if number in before:
            digests[number] = digest.hexdigest()
        if shard.takes(number - 1):
            kept.append(row)
    noted = Noted(shard=shard, rows=number, sha256=digest.hexdigest())
    return Part(kept, shard.places(number), noted, digests)


def noted(store: Store, stage: str) -> Noted | None:
    """The shard that a stage's rows are; None where they are those of a whole run, or there are none."""
    found = store.meta(_NOTED + stage)
    return None if found is None else Noted.model_validate(found)


def lengths(store: Store, stages: Sequence[str]) -> set[int]:
    """How many rows the inputs had that the stages' shards were cut from before."""
    return {each.rows for stage in stages if (each := noted(store, stage)) is not None and each.rows}


def check_shard(store: Store, config: RunConfig, stages: Sequence[str], part: Part | None) -> None:
    """Raise `RunMismatch` where the stages' rows are those of another shard, or of other input."""
    given = config.shard
    for stage in stages:
        held = noted(store, stage)
        if held is None:
            if given is not None and any(store.counts(stage).values()):
                raise RunMismatch(
                    f"{store.folder} holds {stage} rows of a run without --shard, and this command gives "
                    f"--shard {given}; leave it out, or give another --run DIR"
                )
            continue
        if held.shard != given:
            said = "none" if given is None else f"--shard {given}"
            raise RunMismatch(
                f"{store.folder} holds shard {held.shard} of {stage}, and this command gives {said}; "
                f"give --shard {held.shard}, or another --run DIR"
            )
        known = None if part is None or held.rows is None else part.digests.get(held.rows)
        if known is not None and known != held.sha256:
            raise RunMismatch(
                f"{store.folder} holds shard {held.shard} of other input: its first {held.rows} rows have "
                "changed or moved; give the same input (rows may be added at its end), or another --run DIR"
            )


def check_source(store: Store, config: RunConfig, before: str) -> None:
    """Raise where a shard cannot be taken of the stored rows of `before`."""
    if config.shard is None:
        return
    if config.limit is not None:
        raise UsageError(
            f"--limit with --shard was given for rows that are stored, and one shard does not know which "
            f"are the first {config.limit} of all; limit the prompts of generate instead"
        )
    held = noted(store, before)
    if held is not None and held.shard != config.shard:
        raise RunMismatch(
            f"{store.folder} holds shard {held.shard} of {before}, and this command gives --shard "
            f"{config.shard}; give --shard {held.shard}, or another --run DIR"
        )


def note(
    store: Store, config: RunConfig, stages: Sequence[str], part: Part | None, before: str | None
) -> None:
    """Note for each stage which shard its rows are; nothing for a run without shards."""
    if config.shard is None:
        return
    source = None if before is None else noted(store, before)
    fresh = part.noted if part is not None else source or Noted(shard=config.shard)
    for stage in stages:
        held = noted(store, stage)
        if held is None or (fresh.rows or 0) >= (held.rows or 0):
            store.put_meta(_NOTED + stage, fresh.model_dump(mode="json"))


def shard_stages(sources: Mapping[str, Store]) -> list[str]:
    """The stages of which some run is a shard, in the order they were noted."""
    names = [name for store in sources.values() for name in store.notes(_NOTED)]
    return [name.removeprefix(_NOTED) for name in dict.fromkeys(names)]


def check_whole(sources: Mapping[str, Store], stage: str, *, own: bool) -> int:
    """The number of shards that `sources`, by name, are of a stage: all of them, each once and finished.

    `own` says that the rows are pairs of one's own, one place each. Raises `RunMismatch` naming the runs.
    """
    found = {name: _noted_by(store, name, stage) for name, store in sources.items()}
    first, held = next(iter(found.items()))
    by_index: dict[int, str] = {}
    for name, each in found.items():
        if each.shard.of != held.shard.of:
            raise RunMismatch(
                f"{first} is shard {held.shard} and {name} is shard {each.shard}; "
                "only shards of one number are one run"
            )
        if each.shard.index in by_index:
            raise RunMismatch(
                f"{by_index[each.shard.index]} and {name} are both shard {each.shard}; give each shard once"
            )
        if (each.rows, each.sha256) != (held.rows, held.sha256):
            raise RunMismatch(
                f"{first} and {name} are shards of different input ({held.rows} and {each.rows} rows); "
                "run the shards of one input, with the same --limit"
            )
        by_index[each.shard.index] = name
    missing = [f"{index}/{held.shard.of}" for index in range(1, held.shard.of + 1) if index not in by_index]
    if missing:
        more = f" and {len(missing) - _MOST} more" if len(missing) > _MOST else ""
        raise RunMismatch(
            f"{len(missing)} of {held.shard.of} shards are missing: {', '.join(missing[:_MOST])}{more}; "
            "give the directories of all shards"
        )
    for name, store in sources.items():
        _check_rows(store, name, stage, found[name], 1 if own else PLACES)
    return held.shard.of


def _noted_by(store: Store, name: str, stage: str) -> Noted:
    held = noted(store, stage)
    if held is None:
        what = "rows without --shard" if any(store.counts(stage).values()) else "no rows"
        raise RunMismatch(
            f"{name} has {what} of {stage}, and other runs are shards of it; run `constitute {stage}` with "
            "--shard there, or leave it out"
        )
    return held


def _check_rows(store: Store, name: str, stage: str, held: Noted, width: int) -> None:
    """Raise `RunMismatch` for a shard that is unfinished, or holds rows of another."""
    shard = held.shard
    if (open_ := unfinished_stage(store, stage)) is not None:
        raise RunMismatch(f"{name} is shard {shard} and not finished ({open_.sentence} with --shard {shard})")
    wrong = store.read(
        f"SELECT row_id FROM outcomes WHERE stage = ? AND position / {width} % ? != ? LIMIT {_MOST}",
        stage,
        shard.of,
        shard.index - 1,
    )
    if wrong:
        ids = ", ".join(row_id for (row_id,) in wrong)
        raise RunMismatch(
            f"{name} is shard {shard} and holds {stage} rows of other shards: {ids}; run it anew"
        )
    if held.rows is None or stage != next(iter(store.stages()), None):
        return
    places = store.read(f"SELECT count(DISTINCT position / {width}) FROM outcomes WHERE stage = ?", stage)
    wanted = len(shard.places(held.rows))
    if places[0][0] != wanted:
        raise RunMismatch(
            f"{name} is shard {shard} and holds {stage} rows of {places[0][0]} of its {wanted} inputs; run "
            f"its command again"
        )
