"""Where eval sets and results lie in a run directory, and how they are read and written."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from constitute.errors import DataError, StorageError, UsageError
from constitute.evals.items import dump_items, label_set, read_items
from constitute.evals.sets import SetResult, WrittenSet
from constitute.files import write_text
from constitute.types import EvalItem


def evals_dir(run_dir: Path) -> Path:
    """Folder of a run's eval sets; results lie in `results/` under it."""
    return run_dir / "evals"


def save_written(run_dir: Path, written: WrittenSet) -> Path:
    """Write `NAME.jsonl` (the items, anthropics/evals format) and `NAME.json` (what made them)."""
    path = evals_dir(run_dir) / f"{written.name}.jsonl"
    _write(path, dump_items(written.items))
    _write(path.with_suffix(".json"), written.model_dump_json(indent=1) + "\n")
    return path


def save_result(run_dir: Path, result: SetResult) -> Path:
    """Write `results/SET--POLICY.json`; a later result of the same policy takes its place."""
    path = evals_dir(run_dir) / "results" / f"{result.set}--{result.policy}.json"
    _write(path, result.model_dump_json(indent=1) + "\n")
    return path


def load_result(path: Path) -> SetResult:
    """Read a result. Raises `UsageError` for a missing file and `DataError` for a broken one."""
    try:
        return SetResult.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise UsageError(f"cannot read the result {path} ({problem.strerror})") from None
    except (ValidationError, UnicodeDecodeError):
        raise DataError(f"{path} is not a result of `constitute evals run`; run it again") from None


def load_results(run_dir: Path, policy: str | None = None) -> list[SetResult]:
    """Results of a run by set and policy, of one policy where `policy` is given."""
    paths = sorted((evals_dir(run_dir) / "results").glob("*.json"))
    results = [load_result(path) for path in paths]
    return [result for result in results if policy is None or result.policy == policy]


def load_written(run_dir: Path) -> list[WrittenSet]:
    """The sets written in a run, by name. Raises `DataError` for a broken record."""
    written = []
    for path in sorted(evals_dir(run_dir).glob("*.json")):
        try:
            written.append(WrittenSet.model_validate_json(path.read_text(encoding="utf-8")))
        except (ValidationError, UnicodeDecodeError):
            raise DataError(
                f"{path} is not a record of `constitute evals write`; write the set again"
            ) from None
    return written


def load_sets(files: Sequence[Path], run_dir: Path, limit: int | None) -> dict[str, list[EvalItem]]:
    """Items by set name, of the files given or else of everything written in the run.

    A set is named by its file; where two files share a name, their folders' names go before it.
    Raises `UsageError` where there is nothing to read or a set has more than two labels.
    """
    paths = list(files) or sorted(evals_dir(run_dir).glob("*.jsonl"))
    if not paths:
        raise UsageError(
            f"no eval sets in {evals_dir(run_dir)}; give JSONL files, "
            "or write some with `constitute evals write`"
        )
    shared = Counter(path.stem for path in paths)
    sets: dict[str, list[EvalItem]] = {}
    for path in paths:
        name = safe_name(path.stem if shared[path.stem] == 1 else f"{path.resolve().parent.name}-{path.stem}")
        if name in sets:
            raise UsageError(f"two of the sets would be named {name!r}; rename one of the files")
        sets[name] = read_items(path, limit)
        try:
            label_set(sets[name])
        except UsageError as problem:
            raise UsageError(f"{path}: {problem}") from None
    return sets


def pair_results(run_dir: Path, first: str, second: str) -> list[tuple[SetResult, SetResult]]:
    """Results to compare: two result files, or two policies of a run on every set that both were scored on.

    Raises `UsageError` where there is no such file or policy, or no set in common.
    """
    if first.endswith(".json") and second.endswith(".json"):
        return [(load_result(Path(first)), load_result(Path(second)))]
    found = load_results(run_dir)
    known = sorted({result.policy for result in found})
    for name in (first, second):
        if name not in known:
            raise UsageError(
                f"no results of policy {name!r} in {run_dir}; known: {', '.join(known) or 'none'}; "
                "`constitute evals run --policy NAME` makes them"
            )
    own = {result.set: result for result in found if result.policy == first}
    pairs = [(own[result.set], result) for result in found if result.policy == second and result.set in own]
    if not pairs:
        raise UsageError(
            f"{first!r} and {second!r} were scored on no set in common; run both on the same sets"
        )
    return pairs


def policy_name(model: str) -> str:
    """A short name for a model: the last part of its path or URL that says something."""
    parts = [
        part for part in re.split(r"[/\\]+", model) if part and part not in ("http:", "https:", ".", "v1")
    ]
    return safe_name(parts[-1] if parts else model)


def safe_name(text: str) -> str:
    """Text as a file name: letters, digits, dot, hyphen and underscore."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "set"


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise StorageError(
            f"cannot make {path.parent}: {problem.strerror}; choose another --run DIR"
        ) from None
    write_text(path, text)
