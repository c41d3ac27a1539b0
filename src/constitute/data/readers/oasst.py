"""OpenAssistant conversations (oasst1, oasst2): trees of messages whose sibling answers people ranked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from constitute.config.data import ReadConfig
from constitute.data.readers.base import (
    Answer,
    Family,
    Found,
    Item,
    Value,
    number_of,
    objects_of,
    one_of,
    text_of,
    turn,
)

_ROLES = {"prompter": "user", "assistant": "assistant"}
_READY = "ready_for_export"


def _trees(rows: Sequence[Value], config: ReadConfig) -> Iterator[Found]:
    for row in rows:
        if row.get("tree_state") not in (None, _READY):
            yield f"the tree is not ready: {row['tree_state']}"
        else:
            yield from _walk(row["prompt"])


def _messages(rows: Sequence[Value], config: ReadConfig) -> Iterator[Found]:
    """The rows of one tree, one a message; a parent may stand after its children."""
    if rows[0].get("tree_state") not in (None, _READY):
        yield f"the tree is not ready: {rows[0]['tree_state']}"
        return
    nodes = {row["message_id"]: {**row, "replies": []} for row in rows}
    roots = []
    for node in nodes.values():
        parent = node.get("parent_id")
        if parent is None:
            roots.append(node)
        elif parent in nodes:
            nodes[parent]["replies"].append(node)
        else:
            yield "the message's parent does not stand among the rows beside it"
    for root in roots:
        yield from _walk(root)


def _walk(root: Value) -> Iterator[Found]:
    """An item for every message of the prompter, with the conversation before it and its replies."""
    waiting: list[tuple[Value, list[Value]]] = [(root, [])]
    while waiting:
        node, before = waiting.pop()
        if (reason := _unfit(node)) is not None:
            yield reason
            continue
        so_far = [*before, turn(_ROLES[one_of(node, "role", tuple(_ROLES))], text_of(node, "text"))]
        replies = objects_of(node, "replies") if node.get("replies") else []
        waiting += [(reply, so_far) for reply in reversed(replies)]
        if node["role"] == "prompter":
            usable = [reply for reply in replies if _unfit(reply) is None]
            yield Item(so_far, tuple(_answers(usable)))


def _answers(replies: Sequence[Value]) -> Iterator[Answer]:
    """The replies; the rank of a single one says nothing of it."""
    for reply in replies:
        rank = reply.get("rank") if len(replies) > 1 else None
        yield Answer(text_of(reply, "text"), None if rank is None else -number_of(reply, "rank"))


def _unfit(node: Value) -> str | None:
    if node.get("deleted") is True:
        return "a message that was deleted, and what follows it"
    if node.get("review_result") is False:
        return "a message that reviewers rejected, and what follows it"
    return "a message without text, and what follows it" if node.get("text") is None else None


TREES = Family(
    "OASST: trees of messages with ranked answers",
    ("message_tree_id", "prompt"),
    _trees,
    fits=lambda row: isinstance(row["prompt"], dict),
)
MESSAGES = Family(
    "OASST: one message a row, of trees with ranked answers",
    ("message_id", "message_tree_id", "role", "text"),
    _messages,
    group=lambda row: str(row["message_tree_id"]),
)
