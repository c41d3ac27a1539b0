"""Lay out a constitution for a person or a program: every principle with the messages a model reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from constitute.constitution.identity import constitution_hash, principle_hash
from constitute.constitution.priority import by_level
from constitute.constitution.read import FORMS, read_forms, select
from constitute.errors import UsageError
from constitute.strict_yaml import Node
from constitute.templates import render
from constitute.types import Constitution, Principle

SHOWN = 10  # ids in a message


def pick(constitution: Constitution, ids: Sequence[str], tags: Sequence[str] = ()) -> Constitution:
    """The principles that have one of these ids and one of these tags; where none is given, all do.

    Raises `UsageError` for an unknown id or tag, and where no principle has both.
    """
    known = [principle.id for principle in constitution.principles]
    for identity in ids:
        if identity not in known:
            near = get_close_matches(identity, known, n=3)
            more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
            hint = (
                f"did you mean {', '.join(near)}?" if near else f"known are {', '.join(known[:SHOWN])}{more}"
            )
            raise UsageError(f"no principle {identity!r} in {constitution.name!r}; {hint}")
    tagged = select(constitution, tags)
    if not ids:
        return tagged
    chosen = tuple(principle for principle in tagged.principles if principle.id in ids)
    if not chosen:
        raise UsageError(
            f"{', '.join(ids)} and the tag {', '.join(tags)} have no principle in common; "
            "leave one of them out"
        )
    return constitution.model_copy(update={"principles": chosen})


def filled_forms(root: Node) -> dict[str, list[str]]:
    """By id, the forms that a constitution file, given as its root node, leaves to their templates."""
    items = root.entries["principles"].items
    ids = [str(item.entries["id"].scalar).strip() for item in items]
    return {
        identity: [form for form in FORMS if form not in item.entries]
        for identity, item in zip(ids, items, strict=True)
    }


def principle_rows(
    chosen: Constitution,
    filled: Mapping[str, Sequence[str]],
    whole: Constitution | None = None,
    tokens: Callable[[str], int] | None = None,
) -> list[dict[str, Any]]:
    """One JSON-ready row per principle; the forms are rendered as the model will read them.

    `drawn` is the chance that a draw from the `whole` constitution takes the principle, `filled` names the
    forms that come from a template. `lengths` count words and characters of each message, and tokens where
    `tokens` counts them, without the conversation and the replies.
    """
    total = sum(principle.weight for principle in (whole or chosen).principles)
    rows = []
    for principle in chosen.principles:
        row = principle.model_dump(mode="json", exclude={"critique", "revise", "compare"})
        reads = read_forms(principle)
        row |= {"hash": principle_hash(principle), "drawn": principle.weight / total, "reads": reads}
        row["filled"] = list(filled[principle.id])
        row["lengths"] = {form: _length(text, tokens) for form, text in _bare(principle).items()}
        rows.append(row)
    return rows


def as_text(constitution: Constitution, rows: Sequence[dict[str, Any]]) -> str:
    """`rows` of principles of the constitution for a terminal."""
    count, shown = len(constitution.principles), len(rows)
    of = f"{count} principles" if shown == count else f"{shown} of {count} principles"
    blocks = [f"{constitution.name}: {of}, hash {constitution_hash(constitution)[:16]}"]
    if constitution.description:
        blocks.append(constitution.description)
    if any(principle.priority for principle in constitution.principles):
        names = [f"{name} ({len(members)})" for name, members in by_level(constitution)]
        blocks.append(f"levels, the highest first, and how many principles stand on each: {', '.join(names)}")
        without = [principle.id for principle in constitution.principles if not principle.priority]
        if without:
            blocks.append(f"without a priority, so on the last level: {', '.join(without)}")
    blocks += [_block(row) for row in rows]
    return "\n\n".join([*blocks, _totals(rows)])


def totals(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """How many forms `rows` have, how many of them a template filled, and their lengths added up."""
    lengths = [length for row in rows for length in row["lengths"].values()]
    units = list(lengths[0]) if lengths else []
    counts = {"forms": len(lengths), "filled": sum(len(row["filled"]) for row in rows)}
    return counts | {unit: sum(length[unit] for length in lengths) for unit in units}


def _totals(rows: Sequence[dict[str, Any]]) -> str:
    counts = totals(rows)
    forms, filled = counts.pop("forms"), counts.pop("filled")
    said = ", ".join(f"{number} {unit}" for unit, number in counts.items())
    return (
        f"{forms} forms: {forms - filled} written in the file, {filled} from templates; together {said} "
        "(without the conversation and the replies)"
    )


def _block(row: dict[str, Any]) -> str:
    about = [f"weight {row['weight']:g}", f"drawn {row['drawn']:.1%}", *(f"tag {tag}" for tag in row["tags"])]
    about += [f"priority {row['priority']}"] if row["priority"] else []
    about += [f"{len(row['examples'])} examples"] if row["examples"] else []
    lines = [f"{row['id']} ({', '.join(about)})", f"  {_indent(row['text'], 2)}"]
    for form, message in row["reads"].items():
        origin = "from the template" if form in row["filled"] else "written in the file"
        length = ", ".join(f"{number} {unit}" for unit, number in row["lengths"][form].items())
        lines += [f"  {form} ({origin}; {length}):", f"    {_indent(message, 4)}"]
    return "\n".join(lines)


def _bare(principle: Principle) -> dict[str, str]:
    """The three messages with nothing in the place of the conversation and the replies."""
    return {
        "critique": render("critique", principle=principle),
        "revise": render("revise", principle=principle),
        "compare": render("compare", messages=(), a="", b="", principle=principle),
    }


def _length(text: str, tokens: Callable[[str], int] | None) -> dict[str, int]:
    length = {"words": len(text.split()), "characters": len(text)}
    return length if tokens is None else {"tokens": tokens(text), **length}


def _indent(text: str, spaces: int) -> str:
    return text.replace("\n", "\n" + " " * spaces).replace(" " * spaces + "\n", "\n")
