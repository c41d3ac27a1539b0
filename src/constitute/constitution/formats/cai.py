"""The files of Constitutional AI (arXiv 2212.08073): instructions to critique and revise, and to compare."""

from __future__ import annotations

import json
from typing import Any

from constitute.constitution.formats.base import Draft, Format, Found, Source, clean, identity
from constitute.hh import is_hh
from constitute.types import Constitution

_PAPER = "Constitutional AI, arXiv 2212.08073"
# The turn marks that the paper's files put before and after a text.
_CRITIQUE, _REVISION = ("CritiqueRequest:", "Critique:"), ("RevisionRequest:", "Revision:")
_OPTIONS = ("", "Options:")


def _is_revising(source: Source) -> bool:
    value = source.json
    return isinstance(value, dict) and bool(value) and all(map(_is_entry, value.values()))


def _is_entry(item: Any) -> bool:
    return isinstance(item, dict) and "prompt" in item and "edit_request" in item


def _read_revising(source: Source) -> Found:
    return Found([draft for key, item in source.json.items() for draft in _entry(key, item, source)])


def _entry(key: str, item: dict[str, Any], source: Source) -> list[Draft]:
    """Principles of one entry; several critique prompts share its weight, as the paper draws among them."""
    prompts = item["prompt"] if isinstance(item["prompt"], list) else [item["prompt"]]
    revise = clean(item["edit_request"], source, f"{key}.edit_request", _REVISION)
    return [
        Draft(
            text=revise,
            id=identity(key),
            critique=clean(prompt, source, f"{key}.prompt", _CRITIQUE),
            revise=revise,
            weight=1.0 / len(prompts),
            source=_PAPER,
        )
        for prompt in prompts
    ]


def _write_revising(constitution: Constitution) -> str:
    rows = {
        p.id: {
            "prompt": [f"\n\nCritiqueRequest: {p.critique}\n\nCritique:"],
            "edit_request": f"\n\nRevisionRequest: {p.revise}\n\nRevision:",
        }
        for p in constitution.principles
    }
    return json.dumps(rows, ensure_ascii=False)


def _is_comparing(source: Source) -> bool:
    value = source.json
    return (
        isinstance(value, list)
        and bool(value)
        # The paper's few-shot transcripts are a list of texts too.
        and all(isinstance(v, str) and not is_hh(v) and v.rstrip().endswith("Options:") for v in value)
    )


def _read_comparing(source: Source) -> Found:
    texts = [clean(item, source, f"[{i}]", _OPTIONS) for i, item in enumerate(source.json)]
    return Found([Draft(text=text, compare=text, source=_PAPER) for text in texts])


def _write_comparing(constitution: Constitution) -> str:
    return json.dumps([f"\n{p.compare} Options:" for p in constitution.principles], ensure_ascii=False)


REVISING = Format(
    about="the Constitutional AI paper's CritiqueRevisionInstructions.json",
    detect=_is_revising,
    read=_read_revising,
    write=_write_revising,
    holds=frozenset({"critique", "revise"}),
)
COMPARING = Format(
    about="its RLMadisonInstructions.json",
    detect=_is_comparing,
    read=_read_comparing,
    write=_write_comparing,
    holds=frozenset({"compare"}),
)
