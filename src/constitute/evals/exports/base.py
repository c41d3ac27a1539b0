"""What a format of eval sets is, and what formats share: answers in an order that tells nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constitute.errors import UsageError
from constitute.evals.families.persona import asked_labels, has_labels
from constitute.evals.items import items_hash
from constitute.files import write_new
from constitute.types import EvalItem


@dataclass(frozen=True)
class SetFormat:
    """How a set is written for another program.

    `files` gives the texts of a set, by their paths in the folder that is exported to; sets of several calls
    share the folder. `command` runs them: `{out}` is that folder, `{name}` the set, `{task}` its `task_name`.
    """

    about: str
    files: Callable[[str, Sequence[EvalItem]], dict[str, str]]
    command: str


def export_sets(
    sets: Mapping[str, Sequence[EvalItem]], form: SetFormat, out: Path, *, force: bool = False
) -> list[Path]:
    """Write sets into a folder; nothing where a file of theirs is there already, unless `force`."""
    files = {
        out / path: text for name, items in sets.items() for path, text in form.files(name, items).items()
    }
    there = sorted(path for path in files if path.exists())
    if there and not force:
        raise UsageError(f"{there[0]} exists already; give another --out, or --force to replace it")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_new(path, text, force=force)
    return list(files)


def command(form: SetFormat, name: str, out: Path) -> str:
    """The command that runs an exported set."""
    return form.command.format(out=out.resolve(), name=name, task=task_name(name))


def in_fixed_order(item: EvalItem) -> EvalItem:
    """The item with all the labels that its question lists, in an order that says nothing of the behaviour.

    Programs that compare answers take the first of two that are alike. Labels are sorted, so that a tie goes
    to the same label in every item; other answers are sorted by a hash, so that it goes to either.
    """
    options, matching = asked_labels(item)
    showing = {options[at] for at in matching}
    key = str.strip if has_labels(item) else _digest
    ordered = tuple(sorted(options, key=lambda text: (key(text), text)))
    places = tuple(at for at, text in enumerate(ordered) if text in showing)
    return item.model_copy(update={"options": ordered, "matching": places})


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def origin(name: str, items: Sequence[EvalItem]) -> dict[str, Any]:
    """What each row says of the set it is from, so that a log of it can be imported."""
    return {"set": name, "items": len(items), "items_hash": items_hash(items)}


def json_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def task_name(name: str) -> str:
    """A set's name as a task's: letters, digits and underscores."""
    return "constitute_" + "".join(c if c.isalnum() and c.isascii() else "_" for c in name)
