"""Stanford Human Preferences (stanfordnlp/SHP): a Reddit post and two comments with their votes."""

from __future__ import annotations

import html

from constitute.config.data import ReadConfig
from constitute.data.readers.base import (
    Answer,
    Family,
    Found,
    Item,
    Unusable,
    Value,
    alone,
    asked,
    number_of,
    one_of,
    text_of,
)


def _read(row: Value, config: ReadConfig) -> Found:
    """Equal votes are a tie; otherwise `labels` (1: A) says what people preferred."""
    label = one_of(row, "labels", (0, 1))
    a, b = number_of(row, "score_A"), number_of(row, "score_B")
    if (a - b) * (label - 0.5) < 0:
        raise Unusable(f"labels is {label} and the votes say the opposite: {a:g} for A, {b:g} for B")
    ratio = None if a == b or row.get("score_ratio") is None else number_of(row, "score_ratio")
    near = ratio is not None and ratio < config.min_ratio
    answers = Answer(_plain(row, "human_ref_A"), a), Answer(_plain(row, "human_ref_B"), b)
    return Item(asked(_plain(row, "history")), answers, "score_ratio is below read.min_ratio" if near else "")


def _plain(row: Value, key: str) -> str:
    """Reddit's text holds HTML entities, `&gt;` among them."""
    return html.unescape(text_of(row, key))


FAMILY = Family(
    "SHP: Reddit posts with two comments and their votes",
    ("history", "human_ref_A", "human_ref_B", "labels", "score_A", "score_B"),
    alone(_read),
)
