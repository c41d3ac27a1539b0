"""Refuse reward models whose training said that they are no better than chance."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from constitute.errors import DataError, GateFailed, UsageError
from constitute.files import read_json
from constitute.progress import Progress
from constitute.train.rewards.parts import RewardPart


def check_rewards(parts: Iterable[RewardPart], progress: Progress, *, force: bool) -> None:
    """Tell what each reward model's training said of it. Raises `GateFailed` for a verdict unless `force`.

    A part that is measured only, by its weight of 0, stops nothing.
    """
    for part in parts:
        if not isinstance(part.source, str):
            continue
        folder, summary = part.source, _summary(Path(part.source))
        found, warning = (summary.get(key) for key in ("verdict", "warning"))
        if isinstance(found, str) and part.weight and not force:
            raise GateFailed(f"{folder}: {found}; or give --force to optimise against it")
        for sentence in (found, warning):
            if isinstance(sentence, str):
                progress.note(f"{folder}: {sentence}")


def _summary(folder: Path) -> dict[str, Any]:
    """What the training of a model found; nothing where it is not noted."""
    try:
        record = read_json(folder / "training.json")
    except (DataError, UsageError):
        return {}
    summary = record.get("summary") if isinstance(record, dict) else None
    return summary if isinstance(summary, dict) else {}
