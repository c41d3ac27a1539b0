"""Summaries that people compared or rated (openai/summarize_from_feedback, arXiv 2009.01325)."""

from __future__ import annotations

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
    objects_of,
    one_of,
    text_of,
)


def _compared(row: Value, config: ReadConfig) -> Found:
    summaries, choice = objects_of(row, "summaries"), one_of(row, "choice", (0, 1))
    if len(summaries) != 2:
        raise Unusable(f"summaries must be two, not {len(summaries)}")
    answers = tuple(
        Answer(text_of(each, "text").strip(), float(at == choice), str(each.get("policy") or ""))
        for at, each in enumerate(summaries)
    )
    return Item(asked(_task(row["info"])), answers)


def _rated(row: Value, config: ReadConfig) -> Found:
    """One summary and its marks, 1 to 7, of which `read.criterion` is taken, `overall` if unsaid."""
    summary = row["summary"]
    axes = summary.get("axes") or {}
    aspect = config.criterion or "overall"
    score = None if axes.get(aspect) is None else number_of(axes, aspect)
    answer = Answer(text_of(summary, "text").strip(), score, str(summary.get("policy") or ""))
    return Item(asked(_task(row["info"])), (answer,))


def _task(info: Value) -> str:
    """The post or the article as the paper shows it (appendix B.1): the summary follows `TL;DR:`."""
    if info.get("post") is None:
        return f"{text_of(info, 'article')}\n\nTL;DR:"
    head = [
        ("SUBREDDIT: r/", info.get("subreddit")),
        ("TITLE: ", info.get("title")),
        ("POST: ", info["post"]),
    ]
    return "\n\n".join([*(f"{name}{text}" for name, text in head if text is not None), "TL;DR:"])


FAMILY = Family(
    "summarize-from-feedback: posts with two summaries, one of them chosen",
    ("info", "summaries", "choice"),
    alone(_compared),
    fits=lambda row: isinstance(row["info"], dict),
)
AXES = Family(
    "summarize-from-feedback: posts with a summary and its marks",
    ("info", "summary"),
    alone(_rated),
    fits=lambda row: isinstance(row["info"], dict) and isinstance(row["summary"], dict),
)
