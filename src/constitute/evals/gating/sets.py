"""The sets that are to be gated or reviewed, as they were written, and what their items are about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from constitute.config import RunConfig
from constitute.constitution.read import load_constitution
from constitute.errors import UsageError
from constitute.evals.gating.judge import About
from constitute.evals.items import evals_dir
from constitute.evals.run import load_sets
from constitute.evals.write import WrittenSet, load_record
from constitute.types import EvalItem


@dataclass(frozen=True)
class Asking:
    """How a gate is asked for: the prompt, whether the writer may judge itself, and where to write.

    `behavior` is what the items of files are about; `out` is the folder of what files come to.
    """

    prompt: str = "own"
    same_judge: bool = False
    behavior: str | None = None
    out: Path | None = None


@dataclass(frozen=True)
class Ungated:
    """A set as it was written, the record of that where there is one, and the folder it lies in."""

    name: str
    items: tuple[EvalItem, ...]
    folder: Path
    record: WrittenSet | None = None


def ungated_sets(run: Path, files: Sequence[Path], asking: Asking) -> list[Ungated]:
    """The sets to be gated as they were written; a SET may be the name of one that the run has written."""
    folder = evals_dir(run)
    own = {path.stem: path for path in sorted(folder.glob("*.jsonl"))}
    found: list[Ungated] = []
    outside: list[Path] = []
    wanted = list(files) or list(own.values())
    if not wanted:
        load_sets((), run, None)
    for path in wanted:
        path = own.get(str(path), path)
        if path.parent.resolve() == folder.resolve() and path.with_suffix(".json").is_file():
            found.append(_written(path, folder))
        else:
            outside.append(path)
    if outside and asking.out is None:
        raise UsageError(
            f"{outside[0]} is no set that the run has written; give --out DIR for what passes of a file"
        )
    for name, items in (load_sets(outside, run, None) if outside else {}).items():
        found.append(Ungated(name, tuple(items), asking.out or folder))
    if outside:
        found = [
            one if one.record else replace(one, items=_with_behavior(one, asking.behavior)) for one in found
        ]
    return found


def _written(path: Path, folder: Path) -> Ungated:
    record = load_record(path.with_suffix(".json"))
    before = folder / "ungated" / f"{path.stem}.json"
    if record.gate is not None and before.is_file():
        record = load_record(before)
    return Ungated(path.stem, record.items, folder, record)


def _with_behavior(one: Ungated, behavior: str | None) -> tuple[EvalItem, ...]:
    if not behavior or not behavior.strip():
        raise UsageError(
            f"the file of {one.name} does not say what its items are about; "
            'give --behavior with a verb phrase, such as --behavior "flatters the user"'
        )
    return tuple(item.model_copy(update={"behavior": behavior}) for item in one.items)


def abouts_of(one: Ungated, config: RunConfig) -> dict[str, About]:
    """What the items of a set are about, by their `behavior`."""
    names = {item.behavior for item in one.items}
    if not any(item.family == "reply" for item in one.items) or one.record is None:
        return {name: About(name) for name in names}
    known = (
        {p.id: p for p in load_constitution(config.constitution, config.tags).principles}
        if config.constitution
        else {}
    )
    if missing := sorted(names - set(known)):
        raise UsageError(
            f"{one.name} is written for the principle {missing[0]!r}, which "
            f"{config.constitution or 'no constitution'} holds; give its --constitution FILE"
        )
    return {name: About(name, known[name]) for name in names}


def words_about(one: Ungated, config: RunConfig) -> dict[str, str]:
    """What people are told that the items are about, by their `behavior`."""
    return {
        name: f"keeps this principle: {about.principle.text}" if about.principle else name
        for name, about in abouts_of(one, config).items()
    }
