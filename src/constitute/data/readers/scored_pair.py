"""Chosen and rejected with a score each, as in UltraFeedback binarized: equal scores are a tie."""

from __future__ import annotations

from constitute.config.data import ReadConfig
from constitute.data.pairs import answers
from constitute.data.readers.base import Answer, Family, Found, Item, Unusable, Value, alone, number_of, turn

_KEPT = ("id", "weight", "margin", "principle_ids", "principle", "source", "chosen_source", "rejected_source")


def _read(row: Value, config: ReadConfig) -> Found:
    if row["chosen"] == [] or row["rejected"] == []:
        return "an answer is missing"
    better, worse = number_of(row, "score_chosen"), number_of(row, "score_rejected")
    if better < worse:
        raise Unusable(
            f"score_chosen is {better:g} and score_rejected {worse:g}: the better one is not chosen"
        )
    prompt, (chosen, rejected) = answers(row, "chosen", "rejected")
    turns = [turn(each.role, each.content) for each in prompt]
    extra = {key: row[key] for key in _KEPT if row.get(key) is not None}
    return Item(turns, (Answer(chosen, better), Answer(rejected, worse)), extra=extra)


FAMILY = Family(
    "chosen and rejected with scores, as in UltraFeedback binarized",
    ("chosen", "rejected", "score_chosen", "score_rejected"),
    alone(_read),
    # What brings its own label says more than two scores do.
    fits=lambda row: row.get("chosen_prob") is None,
)
