"""Check eval sets, mend them, and write each one's datasheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from constitute.config import RunConfig
from constitute.evals.families import family_spec
from constitute.evals.items import dump_items, evals_dir, read_items
from constitute.evals.quality import quality_check
from constitute.evals.quality.base import Checked, Material, parts_of
from constitute.evals.quality.check import check_set, mended
from constitute.evals.quality.datasheet import datasheet
from constitute.evals.run import load_sets
from constitute.evals.write import load_written
from constitute.files import write_text
from constitute.types import EvalItem, Record


class CheckedSet(Record):
    """A set with what every check found; `left_out` counts items that were left out to mend it, by check."""

    name: str
    items: tuple[EvalItem, ...]
    checks: tuple[Checked, ...]
    left_out: dict[str, int]

    @property
    def failed(self) -> list[str]:
        """Names of the checks that the set does not pass."""
        return [found.check for found in self.checks if found.ok is False]


def check_files(
    config: RunConfig,
    files: Sequence[Path],
    *,
    names: Sequence[str] = (),
    examples: Sequence[Path] = (),
    training: Sequence[str] = (),
    fix: Path | None = None,
) -> list[CheckedSet]:
    """Check the sets of FILES, or all that the run has written; with `fix`, save mended ones in that folder.

    Each is compared with those before it. `examples` are files of items that the writer was shown;
    `training` is data in whose place the run's own prompts stand, where none is given. The datasheet of
    a set of the run, or of a mended one, is written beside it.
    """
    for name in names:
        quality_check(name)
    sets = load_sets(files, config.run, None)
    shown = {
        f"{path.name}:{int(item.id)}": parts_of(item).stem for path in examples for item in read_items(path)
    }
    sources = tuple(training) or ((config.prompts,) if config.prompts else ())
    records = {} if files else {one.name: one for one in load_written(config.run)}
    checked: list[CheckedSet] = []
    before: dict[str, Sequence[EvalItem]] = {}
    for name, items in sets.items():
        material = Material(name, items, config.evals, dict(before), shown, sources)
        one = _checked(material, names, fix is not None)
        before[name] = one.items
        checked.append(one)
        if fix is not None:
            write_text(fix / f"{name}.jsonl", dump_items(one.items))
        folder = fix or (None if files else evals_dir(config.run))
        if folder is not None and not names:
            write_text(folder / f"{name}.md", datasheet(name, one.items, one.checks, records.get(name)))
    return checked


def _checked(material: Material, names: Sequence[str], fix: bool) -> CheckedSet:
    left_out: dict[str, int] = {}
    names = names or family_spec(material.items[0].family).checks or ()
    if fix:
        items, left_out = mended(material, names)
        material = replace(material, items=items)
    checks = check_set(material, names) if material.items else ()
    return CheckedSet(name=material.name, items=tuple(material.items), checks=checks, left_out=left_out)
