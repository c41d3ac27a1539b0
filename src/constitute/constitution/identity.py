"""Identify what a constitution says by hash."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from constitute.constitution.priority import levels
from constitute.types import Constitution, Principle


def principle_hash(principle: Principle) -> str:
    """SHA-256 (hex) of what a model reads of a principle: its text and three forms."""
    return _digest([principle.text, principle.critique, principle.revise, principle.compare])


def constitution_hash(constitution: Constitution) -> str:
    """SHA-256 (hex) of all that can change an outcome, whatever the order, comments or formatting.

    Covers each principle's id, wording, weight, level and tags; not the file's name and description, nor
    sources, probes and examples: what is shown of these is part of each question.
    """
    level = levels(constitution)
    rows = [[p.id, principle_hash(p), p.weight, level[p.id], sorted(p.tags)] for p in constitution.principles]
    return _digest(sorted(rows))


def _digest(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
