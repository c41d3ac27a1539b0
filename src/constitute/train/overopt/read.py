"""Read what PPO and best-of-n wrote: batches, samples, the policies that were kept, the gold's name."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from constitute.errors import DataError, UsageError
from constitute.files import read_json, read_log
from constitute.train.doctor.evidence import Line, noise
from constitute.train.overopt.points import Observation, Scored

PROXY = "reward"
# Points of a run whose settings are not known.
_GRID = 10


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Objects of a JSONL file; a last line that is still being written is left out.

    Raises `UsageError` where there is no file, `DataError` for a broken line.
    """
    if not path.is_file():
        raise UsageError(f"no {path.name} in {path.parent}; give the folder that a finished command wrote")
    return read_log(path)


def gold_of(
    wanted: str | None,
    runs: Mapping[Path, Sequence[Line]],
    samples: Sequence[Line],
) -> str | None:
    """The gold's name: as given, if anything was measured under it, else the only candidate, else None."""
    watched: set[str] = set()
    parts: set[str] = set()
    for folder, lines in runs.items():
        watched |= {str(name) for name in _about(folder).get("watched", [])}
        parts |= {name.partition("/")[2] for line in lines for name in line if name.startswith("reward/")}
    scored = {name for row in samples for name in scores_of(row)}
    if wanted is not None:
        if wanted not in parts | scored:
            raise UsageError(
                f"nothing was measured under the name {wanted!r}; measured were "
                f"{', '.join(sorted(parts | scored)) or 'no parts besides the reward itself'}"
            )
        return wanted
    candidates = watched & parts
    if len(candidates) > 1:
        raise UsageError(
            f"{', '.join(sorted(candidates))} could each be the gold reward; name one with --gold"
        )
    return next(iter(candidates), None)


def _about(folder: Path) -> dict[str, Any]:
    """OUT/watch.json, which names the settings and the watched parts; empty where there is none."""
    path = folder / "watch.json"
    found = read_json(path) if path.is_file() else {}
    if not isinstance(found, dict):
        raise DataError(f"{path} is not a JSON object; remove it and name the gold reward with --gold")
    return found


def section_of(folder: Path) -> str:
    """The section of `train` whose settings made a folder, which is also the name of the command."""
    return str(_about(folder).get("section", "ppo"))


def samples_per_prompt(folder: Path) -> int:
    """How many responses of a batch answer the same prompt; 1 where the settings are not known."""
    return int(_about(folder).get("config", {}).get("samples_per_prompt", 1))


def observations(folder: Path, lines: Sequence[Line], gold: str | None) -> list[Observation]:
    """One a line of metrics, taken before its update. Errors that are missing come from the scatter."""
    field = f"{PROXY}/{gold}"
    values = [line[field] for line in lines if isinstance(line.get(field), int | float)]
    scatter = {PROXY: noise([line[PROXY] for line in lines if PROXY in line]), field: noise(values)}
    observed = []
    for number, line in enumerate(lines, 1):
        if line.get("kl_from"):
            raise DataError(
                f"{folder / 'metrics.jsonl'}:{number}: the KL is from a reference that was renewed after "
                f"iteration {line['kl_from']}, not from the start; give a run without "
                f"train.{section_of(folder)}.reference_refresh"
            )
        try:
            observed.append(
                Observation(
                    updates=int(line["iteration"]) - 1,
                    kl=float(line["kl"]),
                    proxy=float(line[PROXY]),
                    proxy_stderr=line.get("reward_stderr", scatter[PROXY]),
                    gold=line.get(field),
                    gold_stderr=line.get(f"reward_stderr/{gold}", scatter[field]),
                    n=int(line["n"]),
                )
            )
        except (KeyError, TypeError, ValueError):
            where, section = folder / "metrics.jsonl", section_of(folder)
            raise DataError(
                f"{where}:{number}: needs numbers for iteration, kl, {PROXY} and n; give the folder of a "
                f"`constitute train {section}` that measured the KL (train.{section}.kl_coef above 0, such "
                "as 1e-9)"
            ) from None
    return observed


def kept_policies(folder: Path, iterations: int) -> dict[int, Path]:
    """Folders of the policies that were kept, by the iterations they were trained for."""
    found = {}
    for pattern in ("checkpoints/iteration-*/policy", "policies/iteration-*"):
        for path in sorted(folder.glob(pattern)):
            number = next(part for part in path.parts[::-1] if part.startswith("iteration-"))[
                len("iteration-") :
            ]
            if number.isdigit() and (path / "config.json").is_file():
                found[int(number)] = path
    record = folder / "training.json"
    if record.is_file():
        # Where a training may stop, its folder holds the best policy, and the last one is in its checkpoint.
        found[(read_json(record).get("summary") or {}).get("saved_iteration", iterations)] = folder
    return found


def policies_by_step(folder: Path) -> dict[int, Path]:
    """As `kept_policies`, of a training by its folder. Raises `UsageError` where none can be loaded."""
    if not (folder / "metrics.jsonl").is_file():
        raise UsageError(
            f"{folder} holds no training with checkpoints (no metrics.jsonl); give the folder that "
            "`constitute train ppo` or `train grpo` wrote"
        )
    kept = kept_policies(folder, len(rows_of(folder / "metrics.jsonl")))
    if not kept:
        raise UsageError(
            f"{folder} keeps no policy that can be loaded (none has a config.json); train again with "
            f"--set train.{section_of(folder)}.keep_policies=true"
        )
    return kept


def marks_of(folder: Path, iterations: int, kept: Iterable[int]) -> list[int]:
    """Numbers of iterations to compare: the start, every checkpoint, kept or not, and the kept policies."""
    step = _about(folder).get("config", {}).get("checkpoint_every") or max(1, math.ceil(iterations / _GRID))
    return sorted({0, *range(step, iterations + 1, step), *kept})


def by_prompt(rows: Sequence[Line], proxy: str, gold: str) -> tuple[list[list[Scored]], list[str]]:
    """Proxy and gold of each prompt's samples; prompts with fewer than most have are left out and counted.

    A sample that was cut off or is empty is never the best, as in `train best-of-n`.
    """
    groups: dict[str, list[Scored]] = {}
    unscored = 0
    for row in rows:
        scores = scores_of(row)
        group = groups.setdefault(str(row.get("prompt_id")), [])
        if proxy in scores and gold in scores:
            eligible = bool(row.get("ended", True)) and bool(str(row.get("text", "x")).strip())
            group.append(Scored(scores[proxy], scores[gold], eligible))
        else:
            unscored += 1
    counts = Counter(len(group) for group in groups.values() if group)
    usual = max(counts, key=lambda size: (counts[size], size), default=0)
    kept = [group for group in groups.values() if group and len(group) >= usual]
    notes = [f"{unscored} samples lack a score"] if unscored else []
    if len(kept) < len(groups):
        notes.append(f"{len(groups) - len(kept)} prompts with fewer than {usual} scored samples are left out")
    return kept, notes


def scores_of(row: Line) -> dict[str, float]:
    """A sample's finite scores by name; the weighted sum that best-of-n goes by is `reward`."""
    found = {PROXY: row["score"]} if "score" in row else {}
    found |= row.get("scores", {})
    return {
        name: float(value)
        for name, value in found.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
