"""What a policy said, and what was read from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from constitute.types import EvalItem, Message, Record, Status


class Talk(Record):
    """An item and the conversation on it so far; it ends with the policy's turn once that has answered.

    `cut` counts the policy's turns that were cut off at their token limit.
    """

    id: str
    item: EvalItem
    messages: tuple[Message, ...] = ()
    cut: int = 0

    @property
    def answers(self) -> tuple[str, ...]:
        """What the policy said, turn by turn."""
        return tuple(message.content for message in self.messages if message.role == "assistant")


class Answers(Record):
    """What a policy answered to an item, sample by sample; `cut` counts those cut off."""

    id: str
    item: EvalItem
    texts: tuple[str, ...]
    cut: int = 0


class Reading(Record):
    """What a judge reads in an answer: P of each class, in each order of showing, and their mean mass.

    Classes are the item's options and, at last, the refusal; for a conversation, Yes and No to whether the
    assistant shows the behaviour. `flips`: the orders differ on the likeliest class.
    """

    id: str
    shares: tuple[float, ...]
    by_order: tuple[tuple[float, ...], ...]
    mass: float
    flips: bool
    refused: bool = False


class Told(Record):
    """A line of `answers/SET--POLICY.jsonl`: the whole conversation of an item and how it ended.

    `turns` are the messages; of several samples each is a turn of the assistant. `scores` are those of a
    scorer, one a sample.
    """

    id: str
    status: Status
    reason: str = ""
    turns: tuple[Message, ...] = ()
    cut: int = 0
    reading: Reading | None = None
    scores: tuple[float, ...] = ()


@dataclass(frozen=True)
class Readers:
    """Who reads the answers: a judge, or a scorer's file and function; and who writes the user's turns.

    With `same_judge` the policy may judge itself. An `auditor` of None is the judge.
    """

    judge: str | None = None
    auditor: str | None = None
    same_judge: bool = False
    scorer: str | None = None


Kind = Literal["text", "probe"]


def answers_path(folder: Path, name: str, policy: str) -> Path:
    """Where a policy's answers on a set lie."""
    return folder / "answers" / f"{name}--{policy}.jsonl"
