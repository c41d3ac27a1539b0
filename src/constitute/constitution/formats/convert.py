"""Import a constitution from files in known formats, and export it in one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from constitute.constitution.formats import FORMATS
from constitute.constitution.formats.base import Draft, Format, Found, LeftOut, Source
from constitute.constitution.formats.foreign import SAVE, foreign
from constitute.constitution.formats.sections import size
from constitute.constitution.priority import DEFAULT_LEVELS, merge_levels
from constitute.constitution.read import FORMS, fill_form, slug
from constitute.constitution.write import free_id, own_forms
from constitute.errors import DataError, UsageError
from constitute.registry import registered
from constitute.strict_yaml import read_bytes
from constitute.types import Constitution, Principle

MAX_BYTES = 20_000_000


class Imported(NamedTuple):
    """A constitution from files, a sentence for each thing not carried over, and by file what is left out."""

    constitution: Constitution
    notes: list[str]
    left_out: dict[Path, list[LeftOut]]


def import_constitution(paths: Sequence[Path], name: str = "") -> tuple[Constitution, list[str]]:
    """`import_files` without the parts of texts that are left out; the notes count them."""
    return import_files(paths, name)[:2]


def import_files(paths: Sequence[Path], name: str = "", kind: str = "") -> Imported:
    """One constitution from one or more files, in the format `kind` or in the one that each is in.

    A file of critiques and revisions given with a file of comparisons is paired by position: each
    principle then has all three forms and every form is drawn as often as in its own file. (The
    paper's two lists are independent of each other; the pairing has no meaning of its own.)
    Raises `UsageError` for an unknown format and `DataError` for broken content.
    """
    for path in paths:
        if not path.is_file():
            raise UsageError(f"no such file: {path}; give the files of a constitution; {_known()}")
    found = [_read(Source(path, read_bytes(path, MAX_BYTES)), kind) for path in paths]
    notes = [
        note for path, each in zip(paths, found, strict=True) for note in (*each.notes, *_share(path, each))
    ]
    drafts = _merge([each.drafts for each in found], notes)
    constitution = Constitution(
        name=name or found[0].title or paths[0].stem,
        description="\n\n".join(filter(None, (each.description for each in found))),
        priorities=_priorities(found),
        principles=tuple(_finish(drafts)),
    )
    left_out = {
        path: sorted(each.left_out, key=lambda part: part.line)
        for path, each in zip(paths, found, strict=True)
    }
    return Imported(constitution, notes, left_out)


def _share(path: Path, found: Found) -> list[str]:
    """How much of a text stands in its principles, where its reader tells."""
    count = len(found.left_out)
    parts = f"{count} part{'s' * (count != 1)} left out"
    if not found.length:
        return [f"{path}: {parts}"] if count else []
    taken = found.length - sum(size(part.text) for part in found.left_out)
    share = f"{taken:,} of {found.length:,} characters ({taken / found.length:.0%})"
    return [f"{path}: {share} stand in principles and examples; {parts}"]


def _priorities(found: Sequence[Found]) -> tuple[str, ...]:
    """The levels of all files in one order; none where every file keeps to the default ones."""
    if not any(each.priorities for each in found):
        return ()
    used = [each.priorities or DEFAULT_LEVELS for each in found if any(d.priority for d in each.drafts)]
    return merge_levels([each for each in used or [each.priorities for each in found] if each])


def export(constitution: Constitution, kind: str) -> tuple[str, list[str]]:
    """The constitution in the format `kind`, and a sentence for each thing the format cannot hold.

    Raises `UsageError` for an unknown format.
    """
    chosen = _format(kind)
    notes = []
    for what, names in (
        ("critique or revise forms", {"critique", "revise"}),
        ("compare forms", {"compare"}),
    ):
        count = sum(bool(names & set(own_forms(p))) for p in constitution.principles)
        if count and not names & chosen.holds:
            notes.append(f"the format {kind} cannot hold the {what} of {count} principle(s)")
    if "weight" not in chosen.holds and len({p.weight for p in constitution.principles}) > 1:
        notes.append(f"the format {kind} cannot hold weights")
    if "tags" not in chosen.holds and any(
        p.examples or p.probes or p.tags or p.priority or p.opposite for p in constitution.principles
    ):
        notes.append(f"the format {kind} cannot hold tags, priorities, opposites, probes and examples")
    return chosen.write(constitution), notes


def _format(kind: str) -> Format:
    found: Format = registered(FORMATS, kind, "format of constitutions")
    return found


def _known() -> str:
    return f"known are {', '.join(_format(kind).about for kind in FORMATS)}"


def _read(source: Source, kind: str) -> Found:
    if what := foreign(source.data):
        raise DataError(f"{source.path}: {what}; {SAVE} and import that")
    if not source.data.removeprefix(b"\xef\xbb\xbf").strip():
        raise DataError(f"{source.path}: the file is empty; give one that holds principles")
    chosen = _format(kind) if kind else next((f for f in map(_format, FORMATS) if f.detect(source)), None)
    if chosen is None:
        raise _unknown(source)
    if kind and not chosen.any_text and not chosen.detect(source):
        raise DataError(
            f"{source.path} is not in the format {kind} ({chosen.about}); leave out --format to find its own"
        )
    found = chosen.read(source)
    if not found.drafts:
        lost = sorted(found.left_out)[:1]
        why = f" (line {lost[0].line}: {lost[0].reason})" if lost else ""
        raise DataError(f"{source.path}: no principle was found{why}; {_known()}")
    return found


def _unknown(source: Source) -> UsageError | DataError:
    """What to say of a file that is in no known format."""
    path = source.path
    if path.suffix != ".json":
        ending = f"the ending {path.suffix!r}" if path.suffix else "no ending"
        return UsageError(f"{path} has {ending} and is in no known format; {_known()}")
    try:
        json.loads(source.text)
    except json.JSONDecodeError as problem:
        return DataError(f"{path}:{problem.lineno}:{problem.colno}: not JSON ({problem.msg}); {_known()}")
    except RecursionError:
        return DataError(f"{path}: nested too deep to be a constitution; {_known()}")
    except ValueError as problem:
        return DataError(f"{problem}; {_known()}")
    return UsageError(f"{path}: this JSON is not a constitution in a known format; {_known()}")


def _merge(groups: list[list[Draft]], notes: list[str]) -> list[Draft]:
    revising = [g for g in groups if all(d.critique and d.revise and not d.compare for d in g)]
    comparing = [g for g in groups if all(d.compare and not d.critique for d in g)]
    if len(groups) != 2 or len(revising) != 1 or len(comparing) != 1:
        return [draft for group in groups for draft in group]
    first, second = revising[0], comparing[0]
    paired = min(len(first), len(second))
    rest = max(len(first), len(second)) - paired
    tail = f"; {rest} more have their missing forms filled" if rest else ""
    notes.append(f"{paired} critique-revision and comparison instructions paired by position{tail}")
    return [replace(a, compare=b.compare) if a and b else a or b for a, b in zip_longest(first, second)]  # type: ignore[misc]


def _finish(drafts: list[Draft]) -> list[Principle]:
    """The drafts with distinct ids, and with every missing form filled from its template."""
    taken: set[str] = set()
    numbers: dict[str, int] = {}
    principles = []
    for number, draft in enumerate(drafts, 1):
        words = " ".join(draft.text.split()[:6])
        identity = free_id(draft.id or slug(words, 48) or f"principle-{number}", taken, numbers)
        taken.add(identity)
        forms = {form: getattr(draft, form) or fill_form(form, draft.text) for form in FORMS}
        principles.append(Principle.model_validate({**vars(draft), **forms, "id": identity}))
    return principles
