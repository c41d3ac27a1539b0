"""Text for a terminal: tables, counts, and one row's chain."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click

from constitute.stages.card.lines import card_lines
from constitute.stages.card.records import LabelCard
from constitute.text import grouped_reasons, harmless
from constitute.types import LabelledPair, Outcome, PreferenceLabel, Prompt, Response

# How a row ended, and the colour of it on a terminal that wants colours.
_STATUS = {"ok": "green", "abstain": "yellow", "failed": "red"}


def coloured() -> bool:
    """Whether stdout is a terminal that wants colours (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def say(text: str, *, red: bool = False) -> None:
    """Print a sentence for a person to stderr, in red where that is asked for and wanted."""
    text = harmless(text)
    click.echo(click.style(text, fg="red") if red and not os.environ.get("NO_COLOR") else text, err=True)


@contextmanager
def said_if_slow(what: str, after_s: float = 2.0) -> Iterator[None]:
    """Say once what the block does, where it takes longer than `after_s` seconds."""
    timer = threading.Timer(after_s, say, (f"{what} …",))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def counted(count: int, noun: str) -> str:
    """`1 file` or `2 files`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def counted_reasons(numbers: Mapping[str, int]) -> str:
    """`2 repeats another, 1 tie`, reasons that differ in numbers alone as one; `0` where there are none."""
    grouped = grouped_reasons((("", why, number) for why, number in numbers.items() if number), None)
    return ", ".join(f"{number} {why}" for _, number, why in grouped) or "0"


def painted(text: str, status: str) -> str:
    """The text in the colour of a status, on a terminal that wants colours."""
    return click.style(text, fg=_STATUS[status]) if status in _STATUS and coloured() else text


def bold(text: str) -> str:
    """The text in bold, on a terminal that wants it."""
    return click.style(text, bold=True) if coloured() else text


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns aligned with two spaces between them; numbers to the right.

    On a terminal a status is coloured, and so are counts above 0 in the column of one.
    """
    head = [harmless(title) for title in head]
    body = [[_cell(value) for value in row] for row in rows]
    numeric = [all(_is_number(row[at]) for row in body) for at in range(len(head))]
    widths = [max(len(row[at]) for row in [head, *body]) for at in range(len(head))]
    lines = []
    for row in [head, *body]:
        cells = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        cells[-1] = cells[-1].rstrip()
        if row is head:
            lines.append(bold("  ".join(cells).rstrip()))
        else:
            lines.append("  ".join(map(_in_colour, head, row, cells)).rstrip())
    return "\n".join(lines)


def _in_colour(title: str, cell: str, padded: str) -> str:
    if title == "status":
        return painted(padded, cell)
    return painted(padded, title) if cell != "0" else padded


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else harmless(str(value))


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"-?[\d.]+|-", cell) is not None


def card_text(card: LabelCard) -> str:
    """The label card, a figure a line, each with what it was counted over."""
    return table(("label card", ""), ((line.name, line.text) for line in card_lines(card)))


def chain_text(rows: Iterable[tuple[str, Outcome]]) -> str:
    """What happened to a row, stage by stage, as plain text."""
    parts: list[str] = []
    shown: set[str] = set()
    for stage, outcome in rows:
        why = harmless(f" ({outcome.reason})") if outcome.reason else ""
        heading = harmless(f"== {stage} {outcome.row_id}: ")
        parts.append(bold(heading) + painted(outcome.status + why, outcome.status))
        if outcome.data is None:
            continue
        if "steps" in outcome.data:
            found = _response(Response.model_validate(outcome.data), shown)
        elif "comparison" in outcome.data:
            found = _label(LabelledPair.model_validate(outcome.data), shown)
        else:
            found = [harmless(f"{key}: {value}") for key, value in outcome.data.items()]
        parts += found
    return "\n".join(parts)


def _response(row: Response, shown: set[str]) -> list[str]:
    parts: list[str] = []
    if row.id not in shown:
        parts += [_turn(message.role, message.content) for message in row.prompt.messages]
        parts.append(_turn("response", row.response))
    shown |= {row.id, _name(row.prompt)}
    for number, step in enumerate(row.steps, 1):
        if step.critique:
            parts.append(_turn(f"critique {number}, {step.principle_id}", step.critique))
        if step.skipped:
            parts.append(_turn(f"revision {number}, {step.principle_id}", "(none: nothing to mend)"))
        else:
            parts.append(_turn(f"revision {number}, {step.principle_id}", step.revision))
    return parts


def _name(prompt: Prompt) -> str:
    return f"prompt {prompt.id}"


def _label(row: LabelledPair, shown: set[str]) -> list[str]:
    """A label with its pair, after the conversation where no response before it showed that."""
    pair = row.comparison
    messages = () if _name(pair.prompt) in shown else pair.prompt.messages
    parts = [_turn(message.role, message.content) for message in messages]
    shown.add(_name(pair.prompt))
    for side, source, model, text in (
        ("A", pair.a_source, pair.a_model, pair.a),
        ("B", pair.b_source, pair.b_model, pair.b),
    ):
        parts.append(_turn(", ".join(part for part in (side, source, model) if part), text))
    head: tuple[str, ...] = ("principle", "weight", "P(A)", "mass")
    votes: list[tuple[Any, ...]] = [(v.principle_id, v.weight, v.p_a, v.mass_ab) for v in row.label.votes]
    if row.label.ordered:
        head = (
            "principle",
            "weight",
            "P(A), A first",
            "P(A), B first",
            "P(A)",
            "mass, A first",
            "mass, B first",
        )
        votes = [
            (v.principle_id, v.weight, v.p_ab, v.p_ba, v.p_a, v.mass_ab, v.mass_ba) for v in row.label.votes
        ]
    asked = f", {len(votes)} of {row.label.voters} principles asked" if row.label.voters else ""
    return [*parts, table(head, votes), harmless(f"P(A) = {row.label.p_a:.3f}{_ruled(row.label)}{asked}")]


def _ruled(label: PreferenceLabel) -> str:
    """What decided, where it was not the mean of all votes."""
    if label.rule == "mean":
        return ""
    level = f", level {label.level}" if label.level else ""
    return f" by the rule {label.rule}{level}: {', '.join(label.decided_by)}"


def _turn(name: str, text: str) -> str:
    lines = harmless(text).split("\n")
    return "\n".join([bold(f"{harmless(name)}:"), *(f"    {line}" for line in lines)])
