"""Questions with right and wrong answers: HHH in two forms, and TruthfulQA."""

from __future__ import annotations

from constitute.config.data import ReadConfig
from constitute.data.pairs import answers
from constitute.data.readers.base import (
    Answer,
    Family,
    Item,
    Unusable,
    Value,
    alone,
    asked,
    judged,
    number_of,
    text_of,
    texts_of,
    turn,
)


def _hhh(row: Value, config: ReadConfig) -> Item:
    choices, labels = texts_of(row["targets"], "choices"), row["targets"].get("labels")
    if not isinstance(labels, list) or len(labels) != len(choices):
        raise Unusable("targets must hold as many labels as choices")
    scores = [number_of({"labels": label}, "labels") for label in labels]
    pairs = zip(choices, scores, strict=True)
    return Item(asked(text_of(row, "input")), tuple(Answer(text, score) for text, score in pairs))


def _truthfulqa(row: Value, config: ReadConfig) -> Item:
    """The best answer against each of the wrong ones, which are equally wrong."""
    wrong = tuple(Answer(text, 0.0) for text in texts_of(row, "incorrect_answers"))
    return Item(asked(text_of(row, "question")), (Answer(text_of(row, "best_answer"), 1.0), *wrong))


def _transcripts(row: Value, config: ReadConfig) -> Item:
    """Beside the question with letters stand both conversations as they would be."""
    sides = {"chosen": text_of(row, "text_correct"), "rejected": text_of(row, "text_incorrect")}
    prompt, (right, wrong) = answers(sides, "chosen", "rejected")
    turns = [turn(each.role, each.content) for each in prompt]
    return Item(turns, judged(Answer(right), Answer(wrong), -1.0))


HHH_438 = Family(
    "438 HHH evaluations: conversations with a better and a worse answer",
    ("text_correct", "text_incorrect"),
    alone(_transcripts),
)
HHH = Family(
    "HHH alignment: an input and a better and a worse answer",
    ("input", "targets"),
    alone(_hhh),
    fits=lambda row: isinstance(row["targets"], dict) and "choices" in row["targets"],
)
TRUTHFULQA = Family(
    "TruthfulQA: questions with a best answer and wrong ones",
    ("question", "best_answer", "incorrect_answers"),
    alone(_truthfulqa),
)
