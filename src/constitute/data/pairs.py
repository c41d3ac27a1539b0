"""Read two answers to one prompt: pairs to be labelled, and labelled pairs to train on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from constitute.config.data import ReadConfig
from constitute.data.prompts import (
    READ,
    Names,
    clean,
    content_id,
    conversation,
    ending_with_user,
    keys_of,
    transcript,
)
from constitute.data.readers.base import JUDGED_ALONE, Unwanted
from constitute.data.records import Records, notes_on, read_records
from constitute.data.rows import Sources, Unusable, source_names
from constitute.files import BadLine, Row
from constitute.hh import is_hh, split_answer
from constitute.strict_yaml import shorten
from constitute.types import Comparison, Message, Prompt

MEND = "mend or remove the line, or count such lines with --set read.skip_bad=true"
# The names of the one answer in a row that is judged alone.
ANSWERS = ("completion", "response", "answer")
SIDES = (("a", "b"), ("chosen", "rejected"))


@dataclass(frozen=True)
class PreferencePair:
    """Two answers to one conversation and P(chosen), the soft preference label.

    `weight` is how much the pair counts (0 leaves it out), `margin` by how much the likelier side should
    win, None where the row says nothing. `principles` and `source` say where the label and the two
    answers come from.
    """

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    chosen_prob: float
    weight: float = 1.0
    margin: float | None = None
    principles: tuple[str, ...] = ()
    source: str | None = None


class PairsOfPrompts:
    """Counts the pairs of each prompt, of all rows that are read together, up to `read.per_prompt`."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._seen: Counter[int] = Counter()

    def take(self, prompt: tuple[Message, ...]) -> None:
        """Count a pair. Raises `Unwanted` for one too many of its prompt."""
        if self._most is None:
            return
        key = int(content_id(prompt), 16)
        if self._seen[key] >= self._most:
            raise Unwanted("more pairs of one prompt than read.per_prompt")
        self._seen[key] += 1


def read_pairs(
    sources: Sources, *, limit: int | None = None, skip_bad: bool = False, reading: ReadConfig = READ
) -> tuple[list[Comparison], list[BadLine]]:
    """The first `limit` pairs to be labelled and the lines that hold none; files as in `read_prompts`.

    A row holds two answers, `a` and `b` or `chosen` and `rejected`, in a form of `answers`. The first
    becomes A. Equal answers are kept: the labeller decides about them. The preference that the row itself
    holds is kept as `human`, P(A): `chosen` and `rejected` say it (`chosen_prob` how surely), beside `a` and
    `b` the key `human` does: `a`, `b`, `tie` or a number from 0 to 1. `a_model` and `b_model`, or
    `chosen_model` and `rejected_model`, name who wrote the answers; `a_source` and `b_source`, or
    `chosen_source` and `rejected_source`, say where else they come from. Rows of the public shapes of
    `readers` have pairs of their answers, in the order of the file.
    Raises `UsageError` or `DataError` with file and line; with `skip_bad` bad lines are returned instead.
    """
    return read_records(
        sources, _converting(reading), "pairs", limit=limit, skip_bad=skip_bad, use="pairs", reading=reading
    )


def open_pairs(
    sources: Sources, *, limit: int | None = None, skip_bad: bool = False, reading: ReadConfig = READ
) -> Records[Comparison]:
    """As `read_pairs`, for files that need not fit in memory."""
    return Records(
        sources,
        partial(_converting, reading),
        "pairs",
        limit=limit,
        skip_bad=skip_bad,
        use="pairs",
        reading=reading,
    )


def _converting(reading: ReadConfig) -> Callable[[Row, str], Comparison]:
    names, per_prompt = Names(), PairsOfPrompts(reading.per_prompt)

    def convert(row: Row, file: str) -> Comparison:
        pair = comparison_of(row.value, file)
        per_prompt.take(pair.prompt.messages)
        return pair.model_copy(update={"id": names.take(row, pair.id)})

    return convert


def comparison_of(value: dict[str, Any], file: str = "") -> Comparison:
    """The pair that a row is, with its content as its id. Raises `Unusable`."""
    first, second = _sides(value)
    messages, (a, b) = answers(value, first, second)
    return Comparison(
        id=content_id(messages, a, b),
        prompt=Prompt(id=content_id(messages), messages=messages, source=file),
        a=a,
        b=b,
        a_source=_side_source(value, first),
        b_source=_side_source(value, second),
        human=_human(value, (first, second)),
        a_model=_writer(value, f"{first}_model"),
        b_model=_writer(value, f"{second}_model"),
    )


def _side_source(value: dict[str, Any], side: str) -> str:
    """The side's name in the file, with where the row says that its answer comes from (`chosen_source`)."""
    given = value.get(f"{side}_source")
    if not isinstance(given, str) or not given.strip():
        return side
    return f"{side}: {clean(given, f'{side}_source')}"


def read_preferences(
    sources: Sources, note: Callable[[str], None], reading: ReadConfig = READ
) -> list[PreferencePair]:
    """The labelled pairs to train on; files and forms as in `read_pairs`, with `chosen` and `rejected`.

    A row may hold `chosen_prob`, the soft label; a row without it is a hard label, P(chosen) = 1, and
    `note` is told how many are. It may hold `weight`, `margin`, `principle_ids` (or `principle`) and
    `source` (or `chosen_source` and `rejected_source`). Of rows of the public shapes of `readers`, `note` is
    told what is left out and why. Raises `UsageError` or `DataError`.
    """
    hard, per_prompt = 0, PairsOfPrompts(reading.per_prompt)

    def convert(row: Row, file: str) -> PreferencePair:
        nonlocal hard
        pair = preference_of(row.value)
        per_prompt.take(pair.prompt)
        hard += row.value.get("chosen_prob") is None
        return pair

    pairs, left_out = read_records(
        sources, convert, "pairs", remedy=MEND, skip_bad=reading.skip_bad, use="preferences", reading=reading
    )
    for sentence in notes_on(source_names(sources), left_out):
        note(sentence)
    if hard:
        note(
            f"{source_names(sources)}: {hard} of {len(pairs)} pairs have no chosen_prob; their label is "
            "hard, P(chosen) = 1"
        )
    return pairs


def answers(value: dict[str, Any], *keys: str) -> tuple[tuple[Message, ...], list[str]]:
    """The prompt of a row and its answers under `keys`. Raises `Unusable`.

    Either the row has a `prompt` (text, HH transcript or messages) and each answer is text or messages,
    or each answer is a whole conversation (HH transcript or messages); they differ in the last turn alone.
    """
    stem: tuple[Message, ...] | None = None
    given = value.get("prompt")
    if given is not None:
        stem = conversation(given, "prompt")
        if isinstance(given, str) and stem and stem[-1].role == "assistant":
            # An HH prompt ends with the cue of the turn to be written.
            stem, said = split_answer(stem)
            if said:
                raise Unusable("prompt ends with an answer; it must end with the user's turn")
    found = [_answer(value[key], key, stem) for key in keys]
    before = found[0][0]
    for key, (other, _) in zip(keys[1:], found[1:], strict=True):
        if other != before:
            raise Unusable(f"{keys[0]} and {key} answer different conversations")
    # The blank before an answer belongs to the HH form, not to the answer.
    strip = isinstance(given, str) and is_hh(given)
    texts = [answer.strip() if strip else answer for _, answer in found]
    return ending_with_user(before, "prompt" if stem is not None else f"{keys[0]} before its answer"), texts


def _answer(value: Any, key: str, stem: tuple[Message, ...] | None) -> tuple[tuple[Message, ...], str]:
    """What stands before an answer, and the answer; `stem` is the row's own prompt where it has one."""
    if stem is not None and isinstance(value, str) and not is_hh(value):
        return stem, clean(value, key)
    messages = transcript(value, key)
    if not messages or messages[-1].role != "assistant":
        raise Unusable(f"{key} must end with a turn of the assistant, not {shorten(repr(value))}")
    before, answer = split_answer(messages)
    if stem is None or before == stem:
        return before, answer
    if before:
        raise Unusable(f"{key} repeats another conversation than the prompt")
    return stem, answer


def _sides(value: dict[str, Any]) -> tuple[str, str]:
    for first, second in SIDES:
        if value.get(first) is not None and value.get(second) is not None:
            return first, second
    alone = any(value.get(name) is not None for name in ANSWERS) and any(
        value.get(name) is not None for name in ("label", "score")
    )
    raise Unusable(
        f"two answers are needed, a and b or chosen and rejected; found {keys_of(value)}"
        + (f"; {JUDGED_ALONE}" if alone else "")
    )


_SAID = {"a": 1.0, "b": 0.0, "tie": 0.5}


def _human(value: dict[str, Any], sides: tuple[str, str]) -> float | None:
    """P(first) as the row itself has it, None where it says nothing. Raises `Unusable`."""
    key = "chosen_prob" if sides == SIDES[1] else "human"
    given = value.get(key)
    if key == "human" and isinstance(given, str) and given.strip().lower() in _SAID:
        return _SAID[given.strip().lower()]
    found = number_in(value, key, 0.0, "a number from 0 to 1" + (", a, b or tie" if key == "human" else ""))
    if found is not None and found > 1.0:
        raise Unusable(f"{key} must be a number from 0 to 1, not {shorten(repr(given))}")
    return 1.0 if found is None and sides == SIDES[1] else found


def preference_of(value: dict[str, Any]) -> PreferencePair:
    """The labelled pair that a row is. Raises `Unusable`."""
    if _sides(value) == SIDES[0]:
        raise Unusable(
            "a and b do not say which answer is better; label them with `constitute label --pairs`, or name "
            "them chosen and rejected"
        )
    prompt, (chosen, rejected) = answers(value, *SIDES[1])
    if chosen == rejected:
        raise Unusable("chosen and rejected are equal; such a pair teaches nothing")
    prob = number_in(value, "chosen_prob", 0.0, "a number from 0 to 1")
    if prob is not None and prob > 1.0:
        raise Unusable(f"chosen_prob must be a number from 0 to 1, not {value['chosen_prob']!r}")
    weight = number_in(value, "weight", 0.0, "a finite number from 0 up")
    return PreferencePair(
        prompt,
        chosen,
        rejected,
        1.0 if prob is None else prob,
        1.0 if weight is None else weight,
        number_in(value, "margin", -math.inf, "a finite number"),
        _principles(value),
        _source(value),
    )


def number_in(value: dict[str, Any], key: str, low: float, wanted: str) -> float | None:
    """A finite number of at least `low`, None where the row has none; a table holds numbers as text."""
    given = value.get(key)
    if given is None:
        return None
    try:
        number = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not (math.isfinite(number) and number >= low):
        raise Unusable(f"{key} must be {wanted}, not {shorten(repr(given))}")
    return number


def _principles(value: dict[str, Any]) -> tuple[str, ...]:
    """The principles that labelled a pair, each once, in the order given."""
    given = value.get("principle_ids")
    if given is None:
        given = [] if value.get("principle") is None else [value["principle"]]
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        raise Unusable(f"principle_ids must be a list of names, not {shorten(repr(given))}")
    return tuple(dict.fromkeys(clean(name, "principle_ids") for name in given))


def _writer(value: dict[str, Any], key: str) -> str:
    """The name of the model that wrote an answer; empty where the row names none. Raises `Unusable`."""
    given = value.get(key)
    if given is not None and not isinstance(given, str):
        raise Unusable(f"{key} must be the name of a model, not {shorten(repr(given))}")
    return clean(given or "", key)


def _source(value: dict[str, Any]) -> str | None:
    """Where the two answers come from: `source`, else both sides' sources, the same whichever won."""
    given = [value.get("source")]
    if value.get("source") is None:
        given = [value.get("chosen_source"), value.get("rejected_source")]
    names = [name for name in given if name is not None]
    if not all(isinstance(name, str) for name in names):
        raise Unusable(f"the sources of the answers must be names, not {shorten(repr(names))}")
    return " / ".join(sorted({clean(name, "source") for name in names})) or None
