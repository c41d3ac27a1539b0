"""What a reader of a public shape makes of a row: a prompt and its answers, of which every use is made."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal, get_args

from constitute.config.data import ReadConfig
from constitute.strict_yaml import shorten

Value = dict[str, Any]
Use = Literal["prompts", "pairs", "preferences", "conversations"]
USES: tuple[Use, ...] = get_args(Use)


JUDGED_ALONE = "answers that are judged one by one are for KTO, `train dpo --set train.dpo.loss=kto`"


class Unusable(ValueError):
    """A row that holds no usable record; the message is the reason."""


class Unwanted(Unusable):
    """A sound row that the settings leave out; the message is the reason."""


@dataclass(frozen=True)
class Answer:
    """An answer and what it was judged: the higher `score` is the better, None where nobody said.

    `source` names who wrote it, where the file does.
    """

    text: str
    score: float | None = None
    source: str = ""


@dataclass(frozen=True)
class Item:
    """A conversation up to the user's turn, as role and content, and answers to it.

    `unfit` says why none of the answers is to be imitated or compared, `extra` is what its pairs bring along.
    """

    prompt: Sequence[Value]
    answers: tuple[Answer, ...] = ()
    unfit: str = ""
    extra: Value = field(default_factory=dict)


# A text is the reason why something of the row is left out.
Found = Item | str


def _always(value: Value) -> bool:
    return True


@dataclass(frozen=True)
class Family:
    """A public shape: the keys that a row is recognised by, and how rows of it become items.

    `fits` looks at the values where keys are not enough. Rows in succession with the same `group` are read
    together; without `group` each is read alone. `items` raises `Unusable` for a row that it cannot read.
    """

    about: str
    keys: tuple[str, ...]
    items: Callable[[Sequence[Value], ReadConfig], Iterable[Found]]
    fits: Callable[[Value], bool] = _always
    group: Callable[[Value], Hashable] | None = None


def alone(read: Callable[[Value, ReadConfig], Found]) -> Callable[[Sequence[Value], ReadConfig], list[Found]]:
    """`items` of a shape in which every row is one item."""
    return lambda rows, config: [read(row, config) for row in rows]


def turn(role: str, content: str) -> Value:
    """A message as files hold them."""
    return {"role": role, "content": content}


def asked(text: str) -> list[Value]:
    """A conversation of one question."""
    return [turn("user", text)]


def text_of(value: Value, *keys: str) -> str:
    """The text under the first of `keys` that the row has. Raises `Unusable`."""
    key = next((key for key in keys if value.get(key) is not None), keys[0])
    given = value.get(key)
    if not isinstance(given, str):
        raise Unusable(f"{key} must be text, not {shorten(repr(given))}")
    return given


def number_of(value: Value, key: str) -> float:
    """The finite number under `key`; a table holds numbers as text. Raises `Unusable`."""
    given = value.get(key)
    try:
        found = math.nan if isinstance(given, bool) or given is None else float(given)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise Unusable(f"{key} must be a number, not {shorten(repr(given))}")
    return found


def objects_of(value: Value, key: str) -> list[Value]:
    """The list of objects under `key`. Raises `Unusable`."""
    given = value.get(key)
    if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
        raise Unusable(f"{key} must be a list of objects, not {shorten(repr(given))}")
    return given


def texts_of(value: Value, key: str) -> list[str]:
    """The list of texts under `key`. Raises `Unusable`."""
    given = value.get(key)
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise Unusable(f"{key} must be a list of texts, not {shorten(repr(given))}")
    return given


def one_of(value: Value, key: str, known: Sequence[Any]) -> Any:
    """The value under `key`, one of those `known`; a table holds numbers as text. Raises `Unusable`."""
    given = value.get(key)
    found = next((each for each in known if given is not None and str(given) == str(each)), None)
    if found is None:
        raise Unusable(f"{key} must be {' or '.join(map(str, known))}, not {shorten(repr(given))}")
    return found


def judged(first: Answer, second: Answer, strength: float) -> tuple[Answer, Answer]:
    """Two answers with scores that lie |strength| apart; the second is the better where it is positive."""
    return (
        Answer(first.text, max(-strength, 0.0), first.source),
        Answer(second.text, max(strength, 0.0), second.source),
    )


def used_as(item: Item, use: Use, config: ReadConfig) -> Iterator[Value | str]:
    """The rows that an item is for one use, in the form of our own files, and why others are left out."""
    prompt = list(item.prompt)
    if use == "prompts":
        yield {"prompt": prompt}
    elif use == "conversations":
        yield _best(item, prompt)
    elif item.unfit and len(item.answers) > 1:
        yield item.unfit
    elif len(item.answers) < 2:
        alone = use == "preferences" and bool(item.answers) and item.answers[0].score is not None
        yield "there are not two answers to compare" + (f"; {JUDGED_ALONE}" if alone else "")
    elif use == "pairs":
        yield from _rows(item, _twos(item, config, decided=False), _compared)
    else:
        yield from _rows(item, _twos(item, config, decided=True), _preferred)


def _best(item: Item, prompt: list[Value]) -> Value | str:
    """The answer that is imitated: the only one, or the one judged best, the first of equals."""
    if item.unfit:
        return item.unfit
    if not item.answers:
        return "there is no answer"
    best = item.answers[0]
    if len(item.answers) > 1:
        scores = [answer.score for answer in item.answers if answer.score is not None]
        if len(scores) < len(item.answers):
            return "it is not said which of the answers is the better"
        best = max(item.answers, key=lambda answer: answer.score or 0.0)
        if len(set(scores)) == 1:
            return "a tie: no answer is the best"
    if not best.text.strip():
        return "the answer is empty"
    return {"prompt": prompt, "completion": [turn("assistant", best.text)]}


def _twos(item: Item, config: ReadConfig, *, decided: bool) -> Iterator[tuple[Answer, Answer] | str]:
    """Pairs of an item's answers, in their order, or why two of them make none."""
    answers = item.answers
    if config.pairs == "best_worst" and len(answers) > 2:
        known = [answer for answer in answers if answer.score is not None]
        if len(known) < 2:
            yield "it is not said which of the answers is the better"
            return
        ends = (max(known, key=_score), min(known, key=_score))
        answers = tuple(answer for answer in answers if any(answer is end for end in ends))
    for first, second in combinations(answers, 2):
        if not (first.text.strip() and second.text.strip()):
            yield "an answer is empty"
        elif decided and first.text == second.text:
            yield "the answers are equal"
        elif first.score is None or second.score is None:
            yield "it is not said which of the answers is the better" if decided else (first, second)
        elif first.score == second.score and decided and len(item.answers) > 2:
            yield "a tie: both answers have one score"
        elif first.score != second.score and abs(first.score - second.score) < config.min_gap:
            yield "the scores are nearer than read.min_gap"
        else:
            yield first, second


def _score(answer: Answer) -> float:
    return answer.score or 0.0


def _rows(
    item: Item,
    twos: Iterable[tuple[Answer, Answer] | str],
    make: Callable[[list[Value], Answer, Answer], Value],
) -> Iterator[Value | str]:
    for two in twos:
        yield two if isinstance(two, str) else item.extra | make(list(item.prompt), *two)


def _compared(prompt: list[Value], first: Answer, second: Answer) -> Value:
    row: Value = {
        "prompt": prompt,
        "a": [turn("assistant", first.text)],
        "b": [turn("assistant", second.text)],
    }
    names = {"a_model": first.source, "b_model": second.source}
    row |= {key: name for key, name in names.items() if name}
    if first.score is None or second.score is None:
        return row
    return row | {"human": 0.5 + ((first.score > second.score) - (first.score < second.score)) / 2}


def _preferred(prompt: list[Value], first: Answer, second: Answer) -> Value:
    better, worse = (second, first) if _score(second) > _score(first) else (first, second)
    row: Value = {
        "prompt": prompt,
        "chosen": [turn("assistant", better.text)],
        "rejected": [turn("assistant", worse.text)],
    }
    if better.score == worse.score:
        row["chosen_prob"] = 0.5
    names = {"chosen_source": better.source, "rejected_source": worse.source}
    return row | {key: name for key, name in names.items() if name}
