"""What the trainers read: conversations to imitate, and the hash of a data set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constitute.config.data import ReadConfig
from constitute.config.train import Loss
from constitute.data.pairs import MEND, answers
from constitute.data.prompts import READ, keys_of, loss_weight
from constitute.data.rows import Sources, Unusable, notes_on, read_records, source_list, source_names
from constitute.engines.render import Renderer, TokenRow
from constitute.files import Row
from constitute.types import Message

Turns = tuple[Message, ...]
# A row's conversation is under the first of these that it has; the answer alone may stand beside a prompt.
_WHOLE = ("messages", "text")
_KEYS = ("messages", "completion", "text", "chosen")


def reading_inputs(reading: ReadConfig) -> dict[str, str]:
    """What a recipe says of how the data is read; nothing where it is read by default."""
    return {} if reading == READ else {"read": reading.model_dump_json(exclude_defaults=True)}


def data_hash(sources: Sources) -> str:
    """SHA-256 in hexadecimal of a file's bytes or a Hub data set's name; of several, that of their hashes."""
    found = [_hash(Path(source)) for source in source_list(sources)]
    return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()


@dataclass(frozen=True)
class Conversation:
    """Turns that end with the assistant's answer, and the places of the answers that are imitated."""

    turns: Turns
    trained: tuple[int, ...]

    def rows(self, renderer: Renderer) -> list[TokenRow]:
        """The conversation as it is trained on, in as many rows as the chat template makes necessary.

        Raises as the renderer does.
        """
        return renderer.training_rows(self.turns, self.trained)


def read_conversations(
    sources: Sources, loss: Loss, reading: ReadConfig = READ, note: Callable[[str], None] = lambda text: None
) -> list[Conversation]:
    """The conversations of one or several files to imitate, each ending with the assistant's answer.

    A row holds `messages` (a list, or an HH transcript), or `prompt` and `completion`, or an HH transcript
    as `text`, or the better of two answers as `chosen`, in a form of `pairs.answers`. A message's `weight`
    says whether it is trained on; where it has none, `loss` does. Of rows of the public shapes of
    `data.readers`, the best answer is taken, and `note` is told what is left out and why. Raises `UsageError`
    or `DataError` with file and line.
    """

    def convert(row: Row, file: str) -> Conversation:
        return _conversation(row, loss)

    found, left_out = read_records(
        sources,
        convert,
        "conversations",
        remedy=MEND,
        skip_bad=reading.skip_bad,
        use="conversations",
        reading=reading,
    )
    for sentence in notes_on(source_names(sources), left_out):
        note(sentence)
    return found


def _conversation(row: Row, loss: Loss) -> Conversation:
    key = next((key for key in _KEYS if row.value.get(key) not in (None, [])), None)
    if key is None:
        raise Unusable(f"none of the keys {', '.join(_KEYS)}; found {keys_of(row.value)}")
    prompt, (answer,) = answers({key: row.value[key]} if key in _WHOLE else row.value, key)
    turns = (*prompt, Message(role="assistant", content=answer))
    weights = _weights(row.value[key], key)
    if len(weights) < len(turns):
        weights = _weights(None if key in _WHOLE else row.value.get("prompt"), "prompt") + weights
    weights = [*[None] * (len(turns) - len(weights)), *weights]
    places = _answers_in(turns)
    unsaid = set(places if loss == "all" else places[-1:])
    trained = tuple(at for at in places if weights[at] or (weights[at] is None and at in unsaid))
    if not trained:
        raise Unusable(
            f"{key} holds no turn of the assistant to train on: those it could be have the weight 0"
        )
    return Conversation(turns, trained)


def _weights(value: Any, key: str) -> list[int | None]:
    """The weights of a list of messages; one without a weight for an answer given as text."""
    if not isinstance(value, list):
        return [None]
    return [loss_weight(item, f"{key}[{at}]") for at, item in enumerate(value)]


def _answers_in(turns: Turns) -> tuple[int, ...]:
    return tuple(at for at, turn in enumerate(turns) if turn.role == "assistant")


def _hash(path: Path) -> str:
    if not path.is_file():
        return hashlib.sha256(str(path).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
