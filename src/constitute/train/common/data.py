"""Read SFT conversations and preference pairs, and say which line is broken."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constitute.errors import DataError, UsageError

Turns = list[dict[str, str]]


@dataclass(frozen=True)
class Pair:
    """Two answers to one conversation and P(chosen), the soft preference label.

    `weight` is how much the pair counts (0 leaves it out), `margin` by how much the likelier side should
    win, None where the row says nothing. `principles` and `source` say where the label and the two
    answers come from.
    """

    prompt: Turns
    chosen: str
    rejected: str
    chosen_prob: float
    weight: float = 1.0
    margin: float | None = None
    principles: tuple[str, ...] = ()
    source: str | None = None


def data_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (`file:line`, row) of a JSONL or Parquet file. Raises `UsageError` or `DataError`."""
    if not path.is_file():
        raise UsageError(f"no such file: {path}; give --data a JSONL or Parquet file, or run `export` first")
    if path.suffix == ".parquet":
        yield from _parquet(path)
        return
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            place = f"{path}:{number}"
            try:
                row = json.loads(line)
            except json.JSONDecodeError as problem:
                raise DataError(f"{place}: not JSON ({problem.msg} at column {problem.colno})") from problem
            if not isinstance(row, dict):
                raise DataError(f"{place}: a row must be a JSON object, not {type(row).__name__}")
            yield place, row


def _parquet(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as problem:
        raise DataError(f"{path}: not a Parquet file ({problem})") from problem
    for number, row in enumerate(table.to_pylist(), 1):
        yield f"{path}:{number}", row


def read_conversations(path: Path) -> list[Turns]:
    """The conversations to imitate: rows with `messages`, or with `prompt` and `completion`."""
    rows = [_conversation(place, row) for place, row in read_rows(path)]
    if not rows:
        raise DataError(f"{path} holds no rows; there is nothing to train on")
    return rows


def read_pairs(path: Path) -> list[Pair]:
    """The preference pairs: rows with `prompt`, `chosen`, `rejected` and `chosen_prob`.

    A row may hold `weight`, `margin`, `principle_ids` (or `principle`) and `source` (or `chosen_source`
    and `rejected_source`). Raises `UsageError` or `DataError`.
    """
    pairs = [_pair(place, row) for place, row in read_rows(path)]
    if not pairs:
        raise DataError(f"{path} holds no rows; there is nothing to train on")
    return pairs


def _conversation(place: str, row: dict[str, Any]) -> Turns:
    if "messages" in row:
        turns = _turns(place, row["messages"], "messages", "user")
    else:
        prompt = _turns(place, _field(place, row, "prompt", "messages"), "prompt", "user")
        turns = [*prompt, _answer(place, _field(place, row, "completion", "messages"), "completion")]
    if turns[-1]["role"] != "assistant":
        raise DataError(f"{place}: the last turn is the {turns[-1]['role']}'s; it must be the assistant's")
    return turns


def _pair(place: str, row: dict[str, Any]) -> Pair:
    values = {name: _field(place, row, name) for name in ("prompt", "chosen", "rejected", "chosen_prob")}
    prompt = _turns(place, values["prompt"], "prompt", "user")
    if prompt[-1]["role"] != "user":
        raise DataError(f"{place}: `prompt` ends with the {prompt[-1]['role']}'s turn; it must be the user's")
    chosen = _answer(place, values["chosen"], "chosen")["content"]
    rejected = _answer(place, values["rejected"], "rejected")["content"]
    if chosen == rejected:
        raise DataError(f"{place}: `chosen` and `rejected` are equal; remove the pair, it teaches nothing")
    prob = _number(values["chosen_prob"])
    if prob is None or not 0.0 <= prob <= 1.0:
        raise DataError(f"{place}: `chosen_prob` must be a number from 0 to 1, not {values['chosen_prob']!r}")
    weight = 1.0 if row.get("weight") is None else _number(row["weight"])
    if weight is None or weight < 0:
        raise DataError(f"{place}: `weight` must be a finite number from 0 up, not {row['weight']!r}")
    margin = None if row.get("margin") is None else _number(row["margin"])
    if margin is None and row.get("margin") is not None:
        raise DataError(f"{place}: `margin` must be a finite number, not {row['margin']!r}")
    principles = _principles(place, row)
    return Pair(prompt, chosen, rejected, prob, weight, margin, principles, _source(place, row))


def _number(value: Any) -> float | None:
    """A finite number as a float; None for anything else, truth values included."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _principles(place: str, row: dict[str, Any]) -> tuple[str, ...]:
    """The principles that labelled a pair, each once, in the order given."""
    given = row.get("principle_ids")
    if given is None:
        given = [] if row.get("principle") is None else [row["principle"]]
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        raise DataError(f"{place}: `principle_ids` must be a list of names, not {given!r}")
    return tuple(dict.fromkeys(given))


def _source(place: str, row: dict[str, Any]) -> str | None:
    """Where the two answers come from: `source`, else both sides' sources, the same whichever won."""
    given = [row.get("source")]
    if row.get("source") is None:
        given = [row.get("chosen_source"), row.get("rejected_source")]
    names = [name for name in given if name is not None]
    if not all(isinstance(name, str) for name in names):
        raise DataError(f"{place}: the sources of the answers must be names, not {names!r}")
    return " / ".join(sorted(set(names))) or None


def _field(place: str, row: dict[str, Any], *names: str) -> Any:
    if row.get(names[0]) is None:
        wanted = " or ".join(f"`{name}`" for name in names)
        raise DataError(f"{place}: no {wanted}; the fields are {', '.join(row) or 'none'}")
    return row[names[0]]


def _turns(place: str, value: Any, name: str, role: str) -> Turns:
    """A list of turns; a bare string is one turn of `role`."""
    if isinstance(value, str):
        value = [{"role": role, "content": value}]
    if not isinstance(value, list) or not value:
        raise DataError(f"{place}: `{name}` must be a list of turns or a string, not {type(value).__name__}")
    for turn in value:
        if not isinstance(turn, dict) or not isinstance(turn.get("content"), str):
            raise DataError(f"{place}: a turn of `{name}` lacks the text `content`")
        if turn.get("role") not in ("system", "user", "assistant"):
            raise DataError(
                f"{place}: unknown role {turn.get('role')!r} in `{name}`; use system, user, assistant"
            )
    return [{"role": turn["role"], "content": turn["content"]} for turn in value]


def _answer(place: str, value: Any, name: str) -> dict[str, str]:
    turns = _turns(place, value, name, "assistant")
    if len(turns) != 1 or turns[0]["role"] != "assistant":
        raise DataError(f"{place}: `{name}` must be one turn of the assistant, not {len(turns)} turns")
    return turns[0]
