"""Prompts that a model writes: red-team prompts for a principle, or a user's messages about a topic.

Start at `write`; `methods` holds the ways of asking, `listed` reads what a model writes, `score` tries
a prompt on the model, `diversity` counts how far the prompts differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from constitute.registry import registered

if TYPE_CHECKING:
    from constitute.prompts.methods import PromptMethod

# Name -> "module:object" of its `PromptMethod`.
METHODS: dict[str, str] = {
    "zero_shot": "constitute.prompts.methods:ZERO_SHOT",
    "few_shot": "constitute.prompts.methods:FEW_SHOT",
    "worked": "constitute.prompts.methods:WORKED",
}


def prompt_method(name: str) -> PromptMethod:
    """The method of that name; raises `UsageError` naming the nearest one that exists."""
    found: PromptMethod = registered(METHODS, name, "method of writing prompts")
    return found
