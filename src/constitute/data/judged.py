"""Read single answers with a judgement each: desirable or not, from rows of one answer or of two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from constitute.config.data import ReadConfig
from constitute.data.pairs import ANSWERS, MEND, PairsOfPrompts, answers, number_in, preference_of
from constitute.data.prompts import READ, keys_of
from constitute.data.records import notes_on, read_records
from constitute.data.rows import Source, Sources, Unusable, read_rows, source_list, source_names
from constitute.files import Row
from constitute.strict_yaml import shorten
from constitute.types import Message


@dataclass(frozen=True)
class JudgedAnswer:
    """An answer to a conversation, P(desirable), and how much it counts (0 leaves it out)."""

    prompt: tuple[Message, ...]
    answer: str
    desirable_prob: float
    weight: float = 1.0


def read_judged(
    sources: Sources, note: Callable[[str], None], threshold: float, reading: ReadConfig = READ
) -> list[JudgedAnswer]:
    """The judged answers of files in the forms of `read_preferences`, or of rows of a single answer.

    A pair is two: `chosen` is desirable with P = `chosen_prob`, `rejected` with the rest. A row of one answer
    holds it as `completion`, `response` or `answer` beside its `prompt`, or whole conversations in these;
    and `label`, true, false or P(desirable), or else a `score`, which is desirable above `threshold`,
    undesirable below it and neither at it. `note` is told what is left out. Raises `UsageError` or
    `DataError`.
    """
    per_prompt = PairsOfPrompts(reading.per_prompt)

    def convert(row: Row, file: str) -> list[JudgedAnswer]:
        found = judged_of(row.value, threshold)
        if len(found) > 1:
            per_prompt.take(found[0].prompt)
        return found

    found: list[JudgedAnswer] = []
    for source in source_list(sources):
        rows, left_out = read_records(
            source,
            convert,
            "judged answers",
            remedy=MEND,
            skip_bad=reading.skip_bad,
            use=None if _single(source) else "preferences",
            reading=reading,
        )
        for sentence in notes_on(source_names(source), left_out):
            note(sentence)
        found += [answer for row in rows for answer in row]
    return found


def _single(source: Source) -> bool:
    """Whether a source holds rows of one answer, by its first row; readers of pairs would pair them up."""
    first = next((row for row in read_rows(source) if isinstance(row, Row)), None)
    if first is None:
        return False
    names = [name for name in ANSWERS if first.value.get(name) is not None]
    return bool(names) and (first.value.get("label") is not None or first.value.get("score") is not None)


def judged_of(value: dict[str, Any], threshold: float) -> list[JudgedAnswer]:
    """The judged answers of a row: two of a pair, else one. Raises `Unusable`."""
    key = next((name for name in ANSWERS if value.get(name) is not None), None)
    if key is None or value.get("chosen") is not None:
        if value.get("chosen") is None:
            raise Unusable(
                f"an answer is needed, as {', '.join(ANSWERS)}, or chosen and rejected; "
                f"found {keys_of(value)}"
            )
        pair = preference_of(value)
        return [
            JudgedAnswer(pair.prompt, pair.chosen, pair.chosen_prob, pair.weight),
            JudgedAnswer(pair.prompt, pair.rejected, 1.0 - pair.chosen_prob, pair.weight),
        ]
    prompt, (answer,) = answers(value, key)
    weight = number_in(value, "weight", 0.0, "a finite number from 0 up")
    return [JudgedAnswer(prompt, answer, _desirable(value, threshold), 1.0 if weight is None else weight)]


def _desirable(value: dict[str, Any], threshold: float) -> float:
    """P(desirable) by the row's `label`, else by its `score`. Raises `Unusable`."""
    label = value.get("label")
    if isinstance(label, bool):
        return float(label)
    if label is not None:
        # Tables hold truth values as words.
        said = {"true": 1.0, "false": 0.0}.get(str(label).strip().lower())
        prob = said if said is not None else number_in(value, "label", 0.0, _WANTED)
        if prob is None or prob > 1.0:
            raise Unusable(f"label must be {_WANTED}, not {shorten(repr(label))}")
        return prob
    score = number_in(value, "score", float("-inf"), "a finite number")
    if score is None:
        raise Unusable(f"a label or a score is needed beside the answer; found {keys_of(value)}")
    return 0.5 if score == threshold else float(score > threshold)


_WANTED = "true, false or a number from 0 to 1"
