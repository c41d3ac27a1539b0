"""Lay out a constitution for a person or a program: every principle with the messages a model reads."""

from __future__ import annotations

from typing import Any

from constitute.constitution import constitution_hash, principle_hash, read_forms
from constitute.types import Constitution


def principle_rows(constitution: Constitution) -> list[dict[str, Any]]:
    """One JSON-ready row per principle; the forms are rendered as the model will read them."""
    rows = []
    for principle in constitution.principles:
        row = principle.model_dump(mode="json", exclude={"critique", "revise", "compare"})
        rows.append({**row, "hash": principle_hash(principle), "reads": read_forms(principle)})
    return rows


def as_text(constitution: Constitution) -> str:
    """The same for a terminal."""
    count = len(constitution.principles)
    blocks = [f"{constitution.name}: {count} principles, hash {constitution_hash(constitution)[:16]}"]
    if constitution.description:
        blocks.append(constitution.description)
    for principle in constitution.principles:
        about = [f"weight {principle.weight:g}", *(f"tag {tag}" for tag in principle.tags)]
        lines = [f"{principle.id} ({', '.join(about)})", f"  {_indent(principle.text, 2)}"]
        for form, message in read_forms(principle).items():
            lines += [f"  {form}:", f"    {_indent(message, 4)}"]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _indent(text: str, spaces: int) -> str:
    return text.replace("\n", "\n" + " " * spaces)
