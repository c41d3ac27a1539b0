"""Conversations kept out of SFT, and the loss on them while it learns."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic_core import to_jsonable_python
from torch import Tensor

from constitute.engines.render import TokenRow
from constitute.stats import Estimate, bootstrap_of
from constitute.train.common.batching import micro_batches
from constitute.train.common.data import Conversation
from constitute.types import Message

# Padded tokens of one pass. Whole logits are built here, 2.5 GB of them at 150,000 entries in float32.
_TOKENS = 4096
_NO_LOSS = -100
# Under this name the loss stands in the trainer's log, which its checkpoints hold.
HELD_OUT = "held_out_loss"

# Loss of one row: nats summed over the tokens that bear loss, and their number.
RowLoss = tuple[float, int]


def split_conversations(
    conversations: Sequence[Conversation], share: float, seed: int
) -> tuple[list[Conversation], list[Conversation]]:
    """(to train on, held out): `share` of the prompts is held out, and a prompt is on one side only.

    A prompt is what stands before the first answer that bears loss.
    """
    out = held_out([one.turns[: one.trained[0]] for one in conversations], share, seed)
    sides: tuple[list[Conversation], list[Conversation]] = ([], [])
    for conversation, kept in zip(conversations, out, strict=True):
        sides[kept].append(conversation)
    return sides


def held_out(prompts: Sequence[Sequence[Message]], share: float, seed: int) -> list[bool]:
    """Whether each prompt is held out: `share` of the distinct ones, the same for the same words and seed."""
    keys = [
        hashlib.sha256(f"{seed}:{json.dumps([turn.model_dump() for turn in prompt])}".encode()).hexdigest()
        for prompt in prompts
    ]
    distinct = sorted(set(keys))
    chosen = set(distinct[: round(share * len(distinct))])
    return [key in chosen for key in keys]


@torch.no_grad()
def row_losses(network: Any, rows: Sequence[TokenRow], pad_id: int) -> list[RowLoss]:
    """The loss of each row under `network`, in the order given.

    Every process passes all rows: processes that hold parts of the weights must keep step.
    """
    found: list[RowLoss] = [(0.0, 0)] * len(rows)
    for group in micro_batches([len(ids) for ids, _ in rows], _TOKENS):
        ids_BL = _padded([rows[row][0] for row in group], pad_id).to(network.device)
        labels_BL = _padded([rows[row][1] for row in group], _NO_LOSS).to(network.device)
        logits_BLV = network(input_ids=ids_BL, use_cache=False).logits
        for row, logits_LV, labels_L in zip(group, logits_BLV, labels_BL, strict=True):
            places = (labels_L[1:] != _NO_LOSS).nonzero().squeeze(1)
            logprobs_NV = logits_LV[places].float().log_softmax(-1)
            nats = -logprobs_NV.gather(1, labels_L[places + 1][:, None]).double().sum().item()
            found[row] = (nats, len(places))
    return found


def _padded(values: Sequence[Sequence[int]], fill: int) -> Tensor:
    width = max(len(value) for value in values)
    return torch.tensor([[*value, *([fill] * (width - len(value)))] for value in values])


def token_mean(losses: Sequence[RowLoss]) -> float:
    """Nats per token of all rows together, as the training loss is."""
    return sum(nats for nats, _ in losses) / max(1, sum(tokens for _, tokens in losses))


def token_mean_of(losses: Sequence[RowLoss], seed: int) -> Estimate:
    """`token_mean` with a bootstrap interval that draws whole rows."""
    return bootstrap_of([[loss] for loss in losses], token_mean, f"{seed}:held out")


@dataclass
class Evaluation:
    """Rows held out of a training, how often they are scored, and what they cost at each of these steps."""

    rows: Sequence[TokenRow]
    every: int
    pad_id: int
    points: dict[int, float] = field(default_factory=dict)
    last: list[RowLoss] = field(default_factory=list)

    def due(self, step: int, steps: int) -> bool:
        """Whether the rows are scored after `step` of `steps`: at the start, at the end and in between."""
        return bool(self.rows) and (step % self.every == 0 or step >= steps)

    def measure(self, network: Any, step: int) -> float:
        """Score the rows; returns nats per token."""
        training = network.training
        network.eval()
        self.last = row_losses(network, self.rows, self.pad_id)
        network.train(training)
        self.points[step] = token_mean(self.last)
        return self.points[step]

    def figures(self, seed: int) -> dict[str, Any]:
        """What a summary says: the loss before, after and where it was lowest; nothing without rows."""
        if not self.rows:
            return {}
        lowest = min(self.points, key=lambda step: (self.points[step], step))
        return {
            "held_out": {
                "loss_before": self.points.get(0),
                "loss_lowest": self.points[lowest],
                "step_lowest": lowest,
                "loss": to_jsonable_python(token_mean_of(self.last, seed)),
            }
        }
