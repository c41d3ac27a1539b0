"""Turns as they come from files and stages: which bear loss, and how a template wants them arranged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from constitute.engines.render.traits import Traits
from constitute.errors import DataError, RowError
from constitute.types import Message

# A turn of a conversation, as a record or as a row of a file holds it: `role`, `content`, and `weight` (0
# or 1) where an assistant's turn says itself whether it bears loss.
Turn = Message | Mapping[str, Any]
# Which of the assistant's turns bear loss where they do not say so themselves.
Loss = Literal["last", "all"]
# The same, or the places of the turns that do.
Trained = Loss | Sequence[int]


def messages_of(turns: Sequence[Turn]) -> tuple[Message, ...]:
    """The turns as records."""
    return tuple(turn if isinstance(turn, Message) else _message(turn) for turn in turns)


def _message(turn: Mapping[str, Any]) -> Message:
    return Message.model_validate({key: value for key, value in turn.items() if key != "weight"})


def trained_places(turns: Sequence[Turn], loss: Trained) -> list[int]:
    """Places of the turns that bear loss: those given, or of weight 1, and by `loss` those without a weight.

    Raises `DataError` where there is none.
    """
    spoken = [place for place, turn in enumerate(turns) if _of(turn, "role") == "assistant"]
    if isinstance(loss, str):
        default = set(spoken if loss == "all" else spoken[-1:])
        weights = {place: _weight(turns[place]) for place in spoken}
        places = [at for at in spoken if weights[at] or (weights[at] is None and at in default)]
    else:
        places = sorted(set(loss) & set(spoken))
    if not places:
        why = "every turn that could bear loss has weight 0" if spoken else "it has no turn of the assistant"
        raise DataError(f"{begins(turns)} has nothing to train on: {why}")
    return places


def begins(turns: Sequence[Turn]) -> str:
    """How a conversation is named in an error."""
    return (
        f"the conversation that begins {str(_of(turns[0], 'content'))[:60]!r}" if turns else "a conversation"
    )


def _of(turn: Turn, key: str) -> Any:
    return getattr(turn, key) if isinstance(turn, Message) else turn.get(key)


def _weight(turn: Turn) -> int | None:
    weight = None if isinstance(turn, Message) else turn.get("weight")
    if weight is None:
        return None
    if isinstance(weight, bool) or weight not in (0, 1):
        raise DataError(f"a turn has weight {weight!r}; it must be 0 (no loss) or 1")
    return int(weight)


def arranged(messages: tuple[Message, ...], traits: Traits, name: str) -> tuple[Message, ...]:
    """The messages as the template takes them: system text folded, neighbours of one role joined.

    Raises `RowError` for a conversation that the template takes in no arrangement.
    """
    if traits.system == "folded" and any(message.role == "system" for message in messages):
        messages = _folded(messages, name)
    if traits.alternates:
        messages = joined(messages)[0]
    spoken = [message.role for message in messages if message.role != "system"]
    if traits.user_first and spoken[:1] == ["assistant"]:
        raise RowError(
            f"the chat template of {name!r} takes no conversation that begins with the assistant's turn; "
            "put a user turn before it or leave the turn out"
        )
    return messages


def _folded(messages: Sequence[Message], name: str) -> tuple[Message, ...]:
    """System text before the first user turn goes into it; a later one goes into the turn that follows."""
    out: list[Message] = []
    waiting: list[str] = []
    for message in messages:
        if message.role == "system":
            waiting.append(message.content)
        elif message.role == "user" and waiting:
            out.append(Message(role="user", content="\n\n".join([*waiting, message.content])))
            waiting = []
        else:
            out.append(message)
    if waiting:
        raise RowError(
            f"the chat template of {name!r} has no system turns, and no user turn follows that could hold "
            "the system text; add a user turn"
        )
    return tuple(out)


def joined(messages: Sequence[Message]) -> tuple[tuple[Message, ...], list[int]]:
    """Neighbouring turns of one role as one, a blank line between; and where each turn went."""
    out: list[Message] = []
    places: list[int] = []
    for message in messages:
        if out and out[-1].role == message.role:
            message = Message(role=message.role, content=f"{out[-1].content}\n\n{message.content}")
            out.pop()
        out.append(message)
        places.append(len(out) - 1)
    return tuple(out), places
