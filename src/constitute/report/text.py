"""Cut and compare models' texts for a page."""

from __future__ import annotations

from difflib import SequenceMatcher

from constitute.text import harmless


def clip(text: object, limit: int = 4000) -> str:
    """Harmless text of at most `limit` characters; what is cut is counted in its place."""
    shown = harmless(str(text))
    return shown if len(shown) <= limit else f"{shown[:limit]}… ({len(shown) - limit} more characters)"


def share_changed(before: str, after: str) -> float:
    """Share of words that are not in both texts at matching places, in [0, 1]: 1 - 2M/T."""
    return 1.0 - SequenceMatcher(None, before.split(), after.split(), autojunk=False).ratio()
