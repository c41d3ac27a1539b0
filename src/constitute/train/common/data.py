"""What the trainers read: conversations to imitate, and the hash of a data set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from constitute.config.data import ReadConfig
from constitute.config.train import Loss
from constitute.data.conversations import conversation_of
from constitute.data.pairs import MEND
from constitute.data.prompts import READ
from constitute.data.records import notes_on, read_records
from constitute.data.rows import Sources, files_of, source_list, source_names
from constitute.engines.render import Renderer, TokenRow
from constitute.files import Row
from constitute.types import Message

Turns = tuple[Message, ...]


def reading_inputs(reading: ReadConfig) -> dict[str, str]:
    """What a recipe says of how the data is read; nothing where it is read by default."""
    return {} if reading == READ else {"read": reading.model_dump_json(exclude_defaults=True)}


def data_hash(sources: Sources) -> str:
    """SHA-256 in hexadecimal of a file's bytes or a Hub data set's name; of several, that of their hashes."""
    found = [_hash(path) for source in source_list(sources) for path in files_of(source) or [Path(source)]]
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
        return Conversation(*conversation_of(row.value, loss))

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


def _hash(path: Path) -> str:
    if not path.is_file():
        return hashlib.sha256(str(path).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
