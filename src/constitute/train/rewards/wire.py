"""What other programs send to be rewarded, and what they read back: the wire formats of `serve-reward`.

| asked by | body of the request | read of the answer |
|---|---|---|
| our own trainers (`service.payload`) | `messages`, `ids`, and the texts below | `rewards` |
| OpenRLHF 3c3be62, utils/agent.py | `query`, `prompts`, `labels` | `rewards`, `scores`, `extra_logs` |
| vLLM's `/classify`, as verl 1dda039 asks it in experimental/reward_loop | `input` | `data[i].probs` |

OpenRLHF hands over texts with the chat template's marks. A label that `handoff` wrote holds the prompt's
messages, so that a judge or a function gets what a user said and not a template.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from constitute.errors import DataError
from constitute.types import Message, Prompt

ROWS_CAP = 4096


@dataclass(frozen=True)
class Asked:
    """One answer to be rewarded, in as much as was sent of it.

    `query` is the whole conversation as a chat template writes it and `tail` what follows the prompt in it,
    both with the template's marks. `answer` is an answer's plain text.
    """

    prompt: Prompt | None = None
    answer: str | None = None
    query: str | None = None
    tail: str | None = None


def prompt_label(prompt: Prompt) -> str:
    """A prompt as text, for the column of a data set that other programs hand on to a reward unread."""
    messages = [message.model_dump() for message in prompt.messages]
    return json.dumps({"id": prompt.id, "messages": messages}, ensure_ascii=False)


def read_request(body: Any) -> list[Asked]:
    """The rows of a request to `/get_reward`.

    Raises `DataError` naming the first row that cannot be read, for lists of different lengths, and for no
    rows or too many.
    """
    if not isinstance(body, Mapping):
        raise DataError('a request must be a JSON object such as {"messages": [[{"role": ...}, ...], ...]}')
    columns = {
        name: body[name]
        for name in ("messages", "ids", "query", "prompts", "responses", "labels")
        if body.get(name) is not None
    }
    for name, column in columns.items():
        if not isinstance(column, list):
            raise DataError(f"`{name}` is a {type(column).__name__}; it must be a list with one entry a row")
    if not columns.keys() & {"messages", "query", "prompts"}:
        raise DataError("a request needs `messages`, or `prompts` with `responses`, or `query`")
    lengths = {len(column) for column in columns.values()}
    if len(lengths) > 1:
        told = ", ".join(f"{len(column)} {name}" for name, column in columns.items())
        raise DataError(f"a request holds {told}; each list must have one entry a row")
    count = lengths.pop()
    if not 0 < count <= ROWS_CAP:
        raise DataError(f"a request holds {count} rows; send 1 to {ROWS_CAP}")
    rows = [{name: column[row] for name, column in columns.items()} for row in range(count)]
    return [_numbered(number, row) for number, row in enumerate(rows)]


def read_classify(body: Any) -> list[Asked]:
    """The rows of a request to `/classify`: whole conversations as the chat template writes them."""
    given = body.get("input") if isinstance(body, Mapping) else None
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise DataError("`input` must be a text or a list of texts, whole conversations in the chat template")
    if len(texts) > ROWS_CAP:
        raise DataError(f"a request holds {len(texts)} rows; send 1 to {ROWS_CAP}")
    return [Asked(query=text) for text in texts]


def answer(rewards: Sequence[float], parts: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """What `/get_reward` answers: `extra_logs` holds each part of the reward before it is weighted."""
    return {
        "rewards": list(rewards),
        "scores": list(rewards),
        "extra_logs": {k: list(v) for k, v in parts.items()},
    }


def classified(rewards: Sequence[float], model: str) -> dict[str, Any]:
    """What `/classify` answers, as vLLM's server does for a model of one class."""
    data = [
        {"index": place, "label": "LABEL_0", "probs": [value], "num_classes": 1}
        for place, value in enumerate(rewards)
    ]
    return {"object": "list", "model": model, "data": data}


def _numbered(number: int, row: Mapping[str, Any]) -> Asked:
    try:
        return _row(row)
    except ValidationError as problem:
        first = problem.errors()[0]
        place = ".".join(str(each) for each in first["loc"])
        raise DataError(f"row {number}: {place}: {first['msg']}") from None
    except DataError as problem:
        raise DataError(f"row {number}: {problem}") from None


def _row(row: Mapping[str, Any]) -> Asked:
    name = row.get("ids")
    if "messages" in row:
        *before, last = _messages(row["messages"])
        if last.role != "assistant" or not before:
            raise DataError("`messages` must be a prompt and end with the assistant's answer")
        return Asked(prompt=_prompt(before, name), answer=last.content)
    prompt, query = row.get("prompts"), row.get("query")
    if "responses" in row:
        if not isinstance(row["responses"], str) or prompt is None:
            raise DataError("`responses` must be a text, and `prompts` must hold what it answers")
        asked = _labelled(row.get("labels")) or _prompt(_messages(prompt), name)
        return Asked(prompt=asked, answer=row["responses"])
    if not isinstance(query, str):
        raise DataError(f"`query` is {query!r}; it must be the whole conversation as a text")
    known = _labelled(row.get("labels"))
    if not isinstance(prompt, str) or not query.startswith(prompt):
        # OpenRLHF cuts the beginning off a prompt that is too long: the query alone is what was answered.
        return Asked(prompt=known, query=query)
    return Asked(prompt=known, query=query, tail=query[len(prompt) :])


def _messages(given: Any) -> list[Message]:
    if isinstance(given, str):
        return [Message(role="user", content=given)]
    if not isinstance(given, list) or not given:
        raise DataError(f"{str(given)[:80]!r} is no conversation; it must be a list of messages")
    return [Message.model_validate(each) for each in given]


def _prompt(messages: Sequence[Message], name: Any) -> Prompt:
    if not isinstance(name, str) or not name:
        text = json.dumps([message.model_dump() for message in messages])
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Prompt(id=name, messages=tuple(messages))


def _labelled(label: Any) -> Prompt | None:
    """The prompt that a label holds, None for a label of another kind."""
    if not isinstance(label, str) or not label.startswith("{"):
        return None
    try:
        found = json.loads(label)
    except ValueError:
        return None
    if not isinstance(found, dict) or "messages" not in found:
        return None
    return _prompt(_messages(found["messages"]), found.get("id"))
