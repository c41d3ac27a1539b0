"""Eval sets as other programs read them, and their registry: one module a program.

Start at `base` for what a format is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from constitute.registry import registered

if TYPE_CHECKING:
    from constitute.evals.exports.base import SetFormat

# Name -> "module:object" of its `SetFormat`.
SET_FORMATS: dict[str, str] = {
    "anthropic": "constitute.evals.exports.released:FORMAT",
    "winogenerated": "constitute.evals.exports.winogenerated:FORMAT",
    "lm-eval": "constitute.evals.exports.lm_eval:FORMAT",
    "inspect": "constitute.evals.exports.inspect:FORMAT",
    "openai-evals": "constitute.evals.exports.openai_evals:FORMAT",
    "helm": "constitute.evals.exports.helm:FORMAT",
}


def set_format(name: str) -> SetFormat:
    """The format of that name; raises `UsageError` naming the nearest one that exists."""
    found: SetFormat = registered(SET_FORMATS, name, "format of eval sets")
    return found
