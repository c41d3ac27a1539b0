"""Answers with what they are worth: from scored conversations, from pairs, or scored by a reward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import isfinite

from constitute.config.data import ReadConfig
from constitute.data.conversations import conversation_of
from constitute.data.pairs import MEND, preference_of
from constitute.data.records import notes_on, read_records
from constitute.data.rows import Sources, Unusable, source_names
from constitute.errors import DataError
from constitute.files import Row
from constitute.stats import mean
from constitute.types import Message

_EVEN = 0.5


@dataclass(frozen=True)
class Judged:
    """An answer to a conversation and its score, None where the row has none.

    `pair` numbers the row of a pair; of a pair, the score is the probability of being the better.
    """

    prompt: tuple[Message, ...]
    answer: str
    score: float | None
    pair: int | None = None


def read_judged(sources: Sources, reading: ReadConfig, note: Callable[[str], None]) -> list[Judged]:
    """The answers of rows that are pairs (`chosen`, `rejected`) or conversations with a `score`.

    `note` is told what is left out and why. Raises `UsageError` or `DataError` with file and line.
    """
    number = 0

    def convert(row: Row, file: str) -> list[Judged]:
        nonlocal number
        number += 1
        if row.value.get("rejected") is not None:
            pair = preference_of(row.value)
            sides = ((pair.chosen, pair.chosen_prob), (pair.rejected, 1.0 - pair.chosen_prob))
            return [Judged(pair.prompt, answer, score, number) for answer, score in sides]
        turns, _ = conversation_of(row.value, "last")
        return [Judged(turns[:-1], turns[-1].content, _score(row.value.get("score")))]

    found, left_out = read_records(
        sources,
        convert,
        "answers",
        remedy=MEND,
        skip_bad=reading.skip_bad,
        use="preferences",
        reading=reading,
    )
    for sentence in notes_on(source_names(sources), left_out):
        note(sentence)
    return [judged for row in found for judged in row]


def _score(given: object) -> float | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | float) or not isfinite(given):
        raise Unusable(f"score must be a finite number, not {given!r}")
    return float(given)


def limit_of(answers: Sequence[Judged], threshold: float | None) -> float:
    """The score above which an answer is good: `threshold`, else 0.5 for pairs and the mean otherwise.

    Raises `DataError` where an answer has no score, or where all answers are of one kind.
    """
    check_scores(answers)
    scores = [answer.score for answer in answers if answer.score is not None]
    by_pairs = all(answer.pair is not None for answer in answers)
    limit = threshold if threshold is not None else _EVEN if by_pairs else mean(scores)
    good = sum(score > limit for score in scores)
    if good in (0, len(scores)):
        raise DataError(
            f"{good} of {len(scores)} answers are above the threshold of {limit:g}, and both kinds are "
            "needed; set train.conditioned.threshold within the scores"
        )
    return limit


def check_scores(answers: Sequence[Judged]) -> None:
    """Raise `DataError` where there are no answers, or some without a score."""
    lacking = sum(answer.score is None for answer in answers)
    if lacking or not answers:
        raise DataError(
            f"{lacking} of {len(answers)} answers have no score; give rows with `score`, pairs with chosen "
            "and rejected, or score them with --reward"
        )


def sort_out(answers: Sequence[Judged], limit: float) -> tuple[list[tuple[Judged, bool]], int]:
    """Each answer and whether it is above `limit`, without pairs of even probability, which are counted."""
    kept = [answer for answer in answers if answer.pair is None or answer.score != _EVEN]
    return [(answer, (answer.score or 0.0) > limit) for answer in kept], len(answers) - len(kept)


def best_and_worst(answers: Sequence[Judged]) -> tuple[list[tuple[Judged, Judged]], int]:
    """Of each pair, or of all answers to one prompt, its best and its worst; how many have no two."""
    groups: dict[object, list[Judged]] = {}
    for answer in answers:
        groups.setdefault(answer.prompt if answer.pair is None else answer.pair, []).append(answer)
    found = []
    for group in groups.values():
        ranked = sorted(group, key=lambda answer: answer.score or 0.0)
        if (ranked[-1].score or 0.0) > (ranked[0].score or 0.0):
            found.append((ranked[-1], ranked[0]))
    return found, len(groups) - len(found)


def rescored(answers: Sequence[Judged], scores: Sequence[float | None]) -> tuple[list[Judged], int]:
    """The answers with new scores, which are no probabilities of pairs; those without one are counted."""
    kept = [
        replace(answer, score=score, pair=None)
        for answer, score in zip(answers, scores, strict=True)
        if score is not None
    ]
    return kept, len(answers) - len(kept)
