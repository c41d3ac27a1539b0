"""What the trainers read: conversations to imitate, and the hash of a data set."""

from __future__ import annotations

import hashlib
from pathlib import Path

from constitute.data.pairs import answers
from constitute.data.prompts import keys_of
from constitute.data.rows import Sources, Unusable, read_records, source_list
from constitute.files import Row
from constitute.types import Message

Turns = tuple[Message, ...]
# A row's conversation is under the first of these that it has; the answer alone may stand beside a prompt.
_WHOLE = ("messages", "text")
_KEYS = ("messages", "completion", "text", "chosen")


def data_hash(sources: Sources) -> str:
    """SHA-256 in hexadecimal of a file's bytes or a Hub data set's name; of several, that of their hashes."""
    found = [_hash(Path(source)) for source in source_list(sources)]
    return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()


def read_conversations(sources: Sources) -> list[Turns]:
    """The conversations of one or several files to imitate, each ending with the assistant's answer.

    A row holds `messages` (a list, or an HH transcript), or `prompt` and `completion`, or an HH transcript
    as `text`, or the better of two answers as `chosen`, in a form of `pairs.answers`. Raises `UsageError`
    or `DataError` with file and line.
    """
    return read_records(sources, _conversation, "conversations", remedy="mend or remove the line")[0]


def _conversation(row: Row, file: str) -> Turns:
    key = next((key for key in _KEYS if row.value.get(key) not in (None, [])), None)
    if key is None:
        raise Unusable(f"none of the keys {', '.join(_KEYS)}; found {keys_of(row.value)}")
    prompt, (answer,) = answers({key: row.value[key]} if key in _WHOLE else row.value, key)
    return (*prompt, Message(role="assistant", content=answer))


def _hash(path: Path) -> str:
    if not path.is_file():
        return hashlib.sha256(str(path).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
