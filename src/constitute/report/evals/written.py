"""Find the sets of a run, written there or scored there, and write the page of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from constitute.errors import UsageError
from constitute.evals.items import evals_dir, file_name, kept_items
from constitute.evals.run import SetResult, load_results, load_sets
from constitute.evals.sets.spec import SetSpec
from constitute.evals.write import load_written
from constitute.report.evals.sets import write_set_page
from constitute.types import EvalItem


def write_pages(
    run_dir: Path, wanted: Sequence[str] = (), out: Path | None = None, spec: SetSpec | None = None
) -> list[Path]:
    """Write the page of each set to `out`, or to the run's `evals/pages`; returns their paths.

    Sets are files or names of the run; all of it where none is given. Raises `UsageError` for one that is
    neither, and where there is none at all.
    """
    results = load_results(run_dir)
    made = {one.name: one for one in load_written(run_dir)}
    files = [Path(name) for name in wanted if Path(name).is_file()]
    names = [name for name in wanted if not Path(name).is_file()]
    sets = load_sets(files, run_dir, None, spec) if files else {}
    sets |= _of_run(run_dir, names, results, everything=not wanted)
    return [
        write_set_page(
            name,
            items,
            [result for result in results if result.set == name],
            made.get(name),
            (out or evals_dir(run_dir) / "pages") / f"{file_name(name)}.html",
        )
        for name, items in sets.items()
    ]


def _of_run(
    run_dir: Path, names: Sequence[str], results: Sequence[SetResult], *, everything: bool
) -> dict[str, list[EvalItem]]:
    """The run's sets by name: as written, else as most policies were scored on them."""
    if not names and not everything:
        return {}
    there = any(evals_dir(run_dir).glob("*.jsonl"))
    known = load_sets((), run_dir, None) if there else {}
    for name in dict.fromkeys(result.set for result in results):
        if name not in known:
            digests = Counter(result.items_hash for result in results if result.set == name)
            for digest, _ in digests.most_common():
                if items := kept_items(run_dir, digest):
                    known[name] = items
                    break
    listed = ", ".join(sorted(known)) or "none"
    for name in names:
        if name not in known:
            raise UsageError(
                f"{name!r} is no file and no set of {run_dir} whose items are kept; known: {listed}; "
                "name a file, or score the set again with `constitute evals run`"
            )
    if not known:
        raise UsageError(
            f"no eval sets in {evals_dir(run_dir)}; write some with `constitute evals write`, "
            "score some with `constitute evals run`, or name files"
        )
    return known if everything else {name: known[name] for name in names}
