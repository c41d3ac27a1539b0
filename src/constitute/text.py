"""Text from elsewhere, made fit for a terminal or a page."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

# CSI, OSC and other escape sequences, whole; then what is left of control characters, and the characters that
# reorder or hide text.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?|\x1b[@-Z\\-_]"
)
_CONTROLS = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufffe\uffff]"
)


def harmless(text: str) -> str:
    """Text without anything a terminal would act on; line ends and tabs stay, lone surrogates become `?`."""
    clean = _CONTROLS.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n")))
    return clean.encode("utf-8", "replace").decode("utf-8")


def code_span(value: Any) -> str:
    """`value` as a code span that its own text cannot end: text on one line, other values as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    text = " ".join(harmless(text).split())
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    # Blanks keep backticks of the text apart from the fence; a renderer takes them away again.
    return (
        f"{fence} {text} {fence}" if text.startswith("`") or text.endswith("`") else f"{fence}{text}{fence}"
    )


def grouped_reasons(
    reasons: Iterable[tuple[str, str, int]], most: int | None = 5
) -> list[tuple[str, int, str]]:
    """(status, rows, example reason) of reasons that differ in numbers alone, commonest first.

    At most `most` of them, or all.
    """
    counts: Counter[tuple[str, str]] = Counter()
    example: dict[tuple[str, str], str] = {}
    for status, reason, rows in reasons:
        key = (status, re.sub(r"[\d.]+(?:e-?\d+)?", "#", reason))
        counts[key] += rows
        example.setdefault(key, reason)
    return [(key[0], rows, harmless(example[key])) for key, rows in counts.most_common(most)]


# Reasons that are told apart before those that differ in numbers alone are put together.
_APART = 1000


class Reasons:
    """Counts of reasons that differ in numbers alone, with the place of the first; of bounded size."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def add(self, reason: str, where: str) -> None:
        """Count one reason, found at `where`."""
        self._counts[reason] += 1
        self._first.setdefault(reason, where)
        if len(self._counts) > _APART:
            found = self.told()
            self._counts = Counter({reason: number for number, reason, _ in found})
            self._first = {reason: where for _, reason, where in found}

    def told(self) -> list[tuple[int, str, str]]:
        """(number, example reason, place of the first) for each, commonest first."""
        grouped = grouped_reasons((("", reason, n) for reason, n in self._counts.items()), None)
        return [(number, reason, self._first.get(reason, "")) for _, number, reason in grouped]


def csv_cell(text: str) -> str:
    """The text with an apostrophe before what a spreadsheet would run as a formula (OWASP, CSV injection)."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
