"""Lay out a constitution for a person or a program: every principle with the messages a model reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

from constitute.constitution import constitution_hash, fill_form, principle_hash, read_forms
from constitute.errors import UsageError
from constitute.types import Constitution


def pick(constitution: Constitution, ids: Sequence[str]) -> Constitution:
    """The principles of these ids, or all where none is given; raises `UsageError` for an unknown one."""
    known = [principle.id for principle in constitution.principles]
    for identity in ids:
        if identity not in known:
            near = get_close_matches(identity, known, n=3)
            hint = f"did you mean {', '.join(near)}?" if near else f"known are {', '.join(known[:10])}"
            raise UsageError(f"no principle {identity!r} in {constitution.name!r}; {hint}")
    if not ids:
        return constitution
    chosen = tuple(principle for principle in constitution.principles if principle.id in ids)
    return constitution.model_copy(update={"principles": chosen})


def principle_rows(
    chosen: Constitution, whole: Constitution | None = None, tokens: Callable[[str], int] | None = None
) -> list[dict[str, Any]]:
    """One JSON-ready row per principle; the forms are rendered as the model will read them.

    `drawn` is the chance that a draw from the `whole` constitution takes the principle. `lengths` count
    words and characters of each form, and tokens where `tokens` counts them.
    """
    total = sum(principle.weight for principle in (whole or chosen).principles)
    rows = []
    for principle in chosen.principles:
        row = principle.model_dump(mode="json", exclude={"critique", "revise", "compare"})
        reads = read_forms(principle)
        row |= {"hash": principle_hash(principle), "drawn": principle.weight / total, "reads": reads}
        row["filled"] = [
            form for form in reads if getattr(principle, form) == fill_form(form, principle.text)
        ]
        row["lengths"] = {form: _length(text, tokens) for form, text in reads.items()}
        rows.append(row)
    return rows


def as_text(constitution: Constitution, rows: Sequence[dict[str, Any]]) -> str:
    """`rows` of principles of the constitution for a terminal."""
    count, shown = len(constitution.principles), len(rows)
    of = f"{count} principles" if shown == count else f"{shown} of {count} principles"
    blocks = [f"{constitution.name}: {of}, hash {constitution_hash(constitution)[:16]}"]
    if constitution.description:
        blocks.append(constitution.description)
    blocks += [_block(row) for row in rows]
    totals = [sum(_size(length) for length in row["lengths"].values()) for row in rows]
    unit = "tokens" if rows and "tokens" in rows[0]["lengths"]["compare"] else "words"
    blocks.append(f"all forms together: {sum(totals)} {unit}, {max(totals)} in the longest principle")
    return "\n\n".join(blocks)


def _block(row: dict[str, Any]) -> str:
    about = [f"weight {row['weight']:g}", f"drawn {row['drawn']:.1%}", *(f"tag {tag}" for tag in row["tags"])]
    lines = [f"{row['id']} ({', '.join(about)})", f"  {_indent(row['text'], 2)}"]
    for form, message in row["reads"].items():
        origin = "from the template" if form in row["filled"] else "written in the file"
        length = ", ".join(f"{number} {unit}" for unit, number in row["lengths"][form].items())
        lines += [f"  {form} ({origin}; {length}):", f"    {_indent(message, 4)}"]
    return "\n".join(lines)


def _length(text: str, tokens: Callable[[str], int] | None) -> dict[str, int]:
    length = {"words": len(text.split()), "characters": len(text)}
    return length if tokens is None else {"tokens": tokens(text), **length}


def _size(length: dict[str, int]) -> int:
    return length.get("tokens", length["words"])


def _indent(text: str, spaces: int) -> str:
    return text.replace("\n", "\n" + " " * spaces)
