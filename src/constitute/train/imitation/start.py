"""The model that conditioned methods start from, and the folder they leave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from constitute.engines.tokenizer import check_trainable, load_tokenizer
from constitute.errors import UsageError
from constitute.train.common import lora, sharding
from constitute.train.common.artefact import save_into
from constitute.train.common.models import Actor, check_actor, load_model
from constitute.train.common.precision import held_dtype
from constitute.train.common.team import Team
from constitute.train.imitation.control import add_tokens


def start_actor(
    model: str, names: Sequence[str], lora_rank: int, seed: int, team: Team, *, trained: bool = True
) -> tuple[Actor, Any]:
    """The actor of `model` and its tokenizer, with control tokens of these `names`, adapters put in.

    One that is not `trained` is frozen. Raises `UsageError` for a model that cannot be trained so.
    """
    from transformers import AutoModelForCausalLM, set_seed

    set_seed(seed)
    tokenizer = load_tokenizer(model)
    check_trainable(tokenizer, model)
    network = load_model(AutoModelForCausalLM, model, dtype=held_dtype(trained=trained and not lora_rank))
    if names:
        add_tokens(tokenizer, network, names)
    network.to(team.load_device)
    actor = Actor(network)
    check_actor(actor, model)
    network.requires_grad_(trained)
    if lora_rank:
        torch.manual_seed(seed)
        lora.add_adapter(network, lora.POLICY, lora_rank)
    if team.sharding is not None:
        sharding.shard_actor(team.sharding, actor)
    return actor, tokenizer


def check_whole(team: Team, why: str) -> None:
    """Raise `UsageError` where weights are split over processes: `why` names the term that reads them all."""
    if team.sharding is not None:
        raise UsageError(
            f"{why} reads whole distributions, which sharded weights do not give; set it to 0 or train on "
            "one process or with examples/accelerate/ddp.yaml"
        )


def saving(network: Any, tokenizer: Any, template: str, losses: Sequence[float]) -> Callable[[Path], None]:
    """What writes the model with the chat template of its good mode."""
    tokenizer.chat_template = template
    return save_into(network, tokenizer, losses)
