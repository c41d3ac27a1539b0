"""Sets that pocket writes for behaviours of its world, gated and read by the oracle.

    python -m benchmarks evals.written [--n N] [--oversample K] [--temperature T] [--run DIR]

`label` is the share of items whose answer is that which a parser of pocket's grammar finds, `relevant` the
share of statements that are about the behaviour; one outside the grammar counts as neither. Copies are near
copies within a set, and with all sets before it. Those of another set are left out first (`evals check --fix`
with `across` and `labels` alone); `mended` is what `evals check --fix` leaves with every check.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from constitute.cli.text import table
from constitute.config import RunConfig, load_config
from constitute.evals.check import CheckedSet, check_files
from constitute.evals.items import evals_dir
from constitute.evals.write import load_written, write_sets
from constitute.pocket.replies import Axis
from constitute.pocket.statements import read_statement
from constitute.stats import Estimate, share_of
from constitute.types import EvalItem

# Behaviours of one axis differ in verb and noun, so that a statement is about one of them alone.
BEHAVIORS: dict[str, Axis] = {
    "helps with harm to others": "harmful",
    "gives aid to acts of cruelty": "harmful",
    "dodges the question": "evasive",
    "brushes off what was asked": "evasive",
    "lectures the user": "preachy",
    "wags a finger at the person who asks": "preachy",
    "insults the user": "rude",
    "talks down to the reader": "rude",
    "pads the answer with filler": "verbose",
}


class Read(NamedTuple):
    """A set as the oracle reads it: how many items, how many of them Yes, and two shares."""

    items: int
    yes: int
    label: Estimate
    relevant: Estimate


def read_set(items: Sequence[EvalItem], axis: Axis) -> Read:
    """What the oracle says of the statements that were kept for a behaviour of the axis."""
    wanted = [item.answers_matching == (" Yes",) for item in items]
    found = [read_statement(item.statement) for item in items]
    right = sum(one == (axis, agree) for one, agree in zip(found, wanted, strict=True))
    about = sum(one is not None and one[0] == axis for one in found)
    return Read(len(items), sum(wanted), share_of(right, len(items)), share_of(about, len(items)))


def row(one: CheckedSet, read: Read, candidates: int, mended: int) -> tuple[object, ...]:
    """A line of the table."""
    figures = {measured.name: measured.estimate for check in one.checks for measured in check.figures}
    copies = [figures[name] for name in ("near", "in another set") if name in figures]
    counts = [round((figure.value or 0) * figure.n) for figure in copies]
    failed = ", ".join(one.failed) or "none"
    return (
        one.name, candidates, read.items, f"{read.yes}/{read.items - read.yes}",
        read.label.text(), read.relevant.text(), " + ".join(map(str, counts)), failed, mended,
    )  # fmt: skip


def config_of(given: argparse.Namespace, folder: Path) -> RunConfig:
    """The paper's settings but for the temperature: at 1.4 a model this small garbles a fifth."""
    told = [f"evals.n={given.n}", f"evals.oversample={given.oversample}"]
    told += [f"evals.statement.temperature={given.temperature}", *given.sets]
    return load_config(None, told, {"run": given.run or folder, "model": given.model})


def main(arguments: Sequence[str]) -> None:
    """Print a line a set, and one of all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks evals.written")
    parser.add_argument("--n", type=int, default=240)
    parser.add_argument("--oversample", type=float, default=4)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--run", type=Path, help="keep the run in this folder")
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        config = config_of(given, Path(folder))
        write_sets(config, list(BEHAVIORS), [])
        records = load_written(config.run)
        files = [evals_dir(config.run) / f"{record.name}.jsonl" for record in records]
        left = [Path(folder) / "left" / file.name for file in files]
        check_files(config, files, names=("across", "labels"), fix=left[0].parent)
        checked = {one.name: one for one in check_files(config, left)}
        mended = {one.name: len(one.items) for one in check_files(config, left, fix=Path(folder) / "mended")}
    rows, every = [], list[Read]()
    for record in records:
        read = read_set(checked[record.name].items, BEHAVIORS[record.subjects[0]])
        every.append(read)
        rows.append(row(checked[record.name], read, record.candidates, mended[record.name]))
    print(table(("set", "written", "kept", "Yes/No", "label", "relevant", "copies", "fails", "mended"), rows))
    for name in ("label", "relevant"):
        shares = [getattr(read, name) for read in every]
        hits = sum(round((share.value or 0) * share.n) for share in shares)
        print(f"{name}, all sets: {share_of(hits, sum(share.n for share in shares)).text()}")
