"""What the YAML file of an eval set holds, and how a text of it is filled from a row."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from constitute.errors import UsageError
from constitute.evals.metrics import METRICS
from constitute.evals.sets.prepare import PREPARE
from constitute.registry import nearest
from constitute.strict_yaml import parse_yaml, read_bytes
from constitute.types import Form, Record, SamplingParams

_FIELD = re.compile(r"\{\{|\}\}|\{([^{}]+)\}")
_MISSING = object()


class Options(Record):
    """The options of an item: one column or several, each a text, a list, or a mapping with texts as keys."""

    columns: tuple[str, ...] = Field(min_length=1)


class Matching(Record):
    """Which options match; just one of these is given.

    `place` is a column with a place from 0, or a fixed one; `letter` a column with a letter; `flags` a column
    with a 0 or 1 for each option, as a list or by text; `column` one whose text or texts match.
    """

    place: str | int | None = None
    letter: str | None = None
    flags: str | None = None
    column: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Matching:
        if sum(value is not None for value in (self.place, self.letter, self.flags, self.column)) != 1:
            raise ValueError("matching takes just one of place, letter, flags and column")
        return self


class Rotated(Record):
    """How `evals bias` asks: `question` with the options below it, lettered, in every rotation.

    Of the items, those whose groups are as `only` has it.
    """

    question: str
    only: dict[str, str] = Field(default={})


class SetSpec(Record):
    """A set: `question`, `context` and the parts of `groups` are texts with {columns} of a row in them.

    A column within another is written {outer.inner}. The context ends before `context_before`. `options` are
    such texts, or `columns` that hold them; with `lettered`, {choices} in the question lists them and the
    answers are their letters. `answers` says whether they are labels, counted in all spellings, or texts,
    scored as they stand. `rows` names the key of a JSON file under which the rows lie, `prepare` a function
    that adds columns. A set with `rotated` is one of `evals bias`. `mode`, `instruction` and `opening` are
    the set's own way to ask; settings override it. So do `answer: text`, with `samples` answers an item by
    the sampling `reply`.
    """

    title: str
    source: str
    question: str
    options: tuple[str, ...] | Options
    matching: Matching
    answers: Literal["labels", "texts"] = "labels"
    lettered: bool = False
    context: str = ""
    context_before: str = ""
    groups: dict[str, str] = Field(default={})
    behavior: str = ""
    rows: str | None = None
    prepare: str | None = None
    metric: str | None = None
    rotated: Rotated | None = None
    mode: Form | None = None
    instruction: str = ""
    opening: str = ""
    answer: Literal["labels", "text"] = "labels"
    samples: int | None = Field(default=None, ge=1, le=1000)
    reply: SamplingParams | None = None

    @field_validator("metric")
    @classmethod
    def _a_metric(cls, name: str | None) -> str | None:
        if name is not None and name not in METRICS:
            raise ValueError(f"no such metric: {name!r}; {nearest(name, METRICS)}")
        return name

    @field_validator("prepare")
    @classmethod
    def _a_preparation(cls, name: str | None) -> str | None:
        if name is not None and name not in PREPARE:
            raise ValueError(f"no such preparation: {name!r}; {nearest(name, PREPARE)}")
        return name


def load_spec(path: Path) -> SetSpec:
    """Read and check a set's YAML file. Raises `UsageError` for a key or a value that is not understood."""
    root = parse_yaml(read_bytes(path), path)
    try:
        return SetSpec.model_validate(root.plain())
    except ValidationError as problem:
        first = problem.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        known = (
            f"; known keys: {', '.join(SetSpec.model_fields)}" if first["type"] == "extra_forbidden" else ""
        )
        said = str(first["msg"]).removeprefix("Value error, ")
        raise UsageError(f"{path}: {where}: {said}{known}") from None


def value_at(row: Mapping[str, Any], path: str) -> Any:
    """The value of a column, {outer.inner} within another. Raises `KeyError` where there is none."""
    value: Any = row
    for key in path.split("."):
        value = value.get(key, _MISSING) if isinstance(value, Mapping) else _MISSING
        if value is _MISSING:
            raise KeyError(path)
    return value


def fill(text: str, row: Mapping[str, Any]) -> str:
    """The text with the row's columns in it; what they hold is never read as such a text again."""

    def put(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0][0]
        value = value_at(row, found[1].strip())
        if value is None:
            raise KeyError(found[1].strip())
        return str(value)

    return _FIELD.sub(put, text)
