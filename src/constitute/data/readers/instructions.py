"""Instructions with an output: Alpaca, GPTeacher, dolly, Unnatural and Super-Natural Instructions, Flan."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from constitute.config.data import ReadConfig
from constitute.data.readers.base import (
    Answer,
    Family,
    Found,
    Item,
    Unusable,
    Value,
    alone,
    asked,
    objects_of,
    text_of,
)

# Words that stand for an input that is not there.
_NOTHING = {"", "noinput", "<noinput>", "n/a", "none"}


def _plain(instruction: str, more: str, output: str) -> Callable[[Value, ReadConfig], Found]:
    """A reader of rows with an instruction, what it is about, and the answer under these keys."""

    def read(row: Value, config: ReadConfig) -> Found:
        about = "" if row.get(more) is None else text_of(row, more)
        return _item(text_of(row, instruction), about, text_of(row, output))

    return read


def _item(instruction: str, about: str, output: str) -> Item:
    whole = instruction if about.strip().lower().rstrip(".") in _NOTHING else f"{instruction}\n\n{about}"
    return Item(asked(whole), (Answer(output),))


def _unnatural(rows: Sequence[Value], config: ReadConfig) -> Iterator[Found]:
    """Each instance, and each other wording of it, is an item of its own."""
    for row in rows:
        for each in (*objects_of(row, "instances"), *(row.get("reformulations") or [])):
            yield Item(asked(text_of(each, "instruction_with_input")), (Answer(text_of(each, "output")),))


def _super_natural(rows: Sequence[Value], config: ReadConfig) -> Iterator[Found]:
    """A file is one task: its definition stands before each input; of several outputs the first is taken."""
    for row in rows:
        definition = "\n".join(_listed(row, "Definition"))
        for each in objects_of(row, "Instances"):
            yield _item(definition, text_of(each, "input"), _listed(each, "output")[0])


def _listed(row: Value, key: str) -> list[str]:
    found = row.get(key)
    found = found if isinstance(found, list) else [found]
    if not found or not all(isinstance(each, str) for each in found):
        raise Unusable(f"{key} must be text or a list of texts")
    return found


def _metadata(row: Value, config: ReadConfig) -> Found:
    about = row.get("METADATA")
    context = about.get("CONTEXT") if isinstance(about, dict) else None
    return _item(text_of(row, "INSTRUCTION"), context or "", text_of(row, "RESPONSE"))


ALPACA = Family(
    "Alpaca: instruction, input and output",
    ("instruction", "output"),
    alone(_plain("instruction", "input", "output")),
)
GPTEACHER = Family(
    "GPTeacher: instruction, input and response",
    ("instruction", "input", "response"),
    alone(_plain("instruction", "input", "response")),
)
DOLLY = Family(
    "dolly: instruction, context and response",
    ("instruction", "response"),
    alone(_plain("instruction", "context", "response")),
)
OASST = Family("OASST instructions: INSTRUCTION and RESPONSE", ("INSTRUCTION", "RESPONSE"), alone(_metadata))
FLAN = Family("Flan: inputs and targets", ("inputs", "targets"), alone(_plain("inputs", "", "targets")))
UNNATURAL = Family(
    "Unnatural instructions: instances of an instruction", ("instruction", "instances"), _unnatural
)
SUPER_NATURAL = Family(
    "Super-NaturalInstructions: a task with its instances", ("Definition", "Instances"), _super_natural
)
