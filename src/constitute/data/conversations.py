"""Read conversations to imitate from a row: `messages`, `text`, or an answer beside its prompt."""

from __future__ import annotations

from typing import Any

from constitute.config.train import Loss
from constitute.data.pairs import answers
from constitute.data.prompts import keys_of, loss_weight
from constitute.data.rows import Unusable
from constitute.types import Message

Turns = tuple[Message, ...]
# A row's conversation is under the first of these that it has; the answer alone may stand beside a prompt.
_WHOLE = ("messages", "text")
_KEYS = ("messages", "completion", "text", "chosen")


def conversation_of(value: dict[str, Any], loss: Loss) -> tuple[Turns, tuple[int, ...]]:
    """The turns of a row, which end with the assistant's answer, and the places of those to imitate.

    `loss` decides about the turns whose `weight` says nothing. Raises `Unusable`.
    """
    key = next((key for key in _KEYS if value.get(key) not in (None, [])), None)
    if key is None:
        raise Unusable(f"none of the keys {', '.join(_KEYS)}; found {keys_of(value)}")
    prompt, (answer,) = answers({key: value[key]} if key in _WHOLE else value, key)
    turns = (*prompt, Message(role="assistant", content=answer))
    weights = _weights(value[key], key)
    if len(weights) < len(turns):
        weights = _weights(None if key in _WHOLE else value.get("prompt"), "prompt") + weights
    weights = [*[None] * (len(turns) - len(weights)), *weights]
    places = _answers_in(turns)
    unsaid = set(places if loss == "all" else places[-1:])
    trained = tuple(at for at in places if weights[at] or (weights[at] is None and at in unsaid))
    if not trained:
        raise Unusable(
            f"{key} holds no turn of the assistant to train on: those it could be have the weight 0"
        )
    return turns, trained


def _weights(value: Any, key: str) -> list[int | None]:
    """The weights of a list of messages; one without a weight for an answer given as text."""
    if not isinstance(value, list):
        return [None]
    return [loss_weight(item, f"{key}[{at}]") for at, item in enumerate(value)]


def _answers_in(turns: Turns) -> tuple[int, ...]:
    return tuple(at for at, turn in enumerate(turns) if turn.role == "assistant")
