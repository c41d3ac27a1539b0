"""What is to be true of an eval set before it says anything of a model: checks, mending and a datasheet.

Each check is one function of a set; `base` says what it is given and gives, `check` runs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from constitute.registry import registered

if TYPE_CHECKING:
    from constitute.evals.quality.base import QualityCheck

# Name -> "module:object" of its `QualityCheck`, in the order in which a set is checked and mended.
CHECKS: dict[str, str] = {
    "conflicts": "constitute.evals.quality.labels:CONFLICTS",
    "leaks": "constitute.evals.quality.copies:LEAKS",
    "training": "constitute.evals.quality.copies:TRAINING",
    "duplicates": "constitute.evals.quality.copies:DUPLICATES",
    "across": "constitute.evals.quality.copies:ACROSS",
    "cues": "constitute.evals.quality.cues:CUES",
    "labels": "constitute.evals.quality.labels:LABELS",
    "words": "constitute.evals.quality.bayes:WORDS",
    "diversity": "constitute.evals.quality.topics:DIVERSITY",
    "topics": "constitute.evals.quality.topics:TOPICS",
}


def quality_check(name: str) -> QualityCheck:
    """The check of that name; raises `UsageError` naming the nearest one that exists."""
    found: QualityCheck = registered(CHECKS, name, "check of an eval set")
    return found
