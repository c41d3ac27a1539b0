"""The policy that learns from given answers: opening it, its adapters, and how likely it finds an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from constitute.config.train import DPOConfig
from constitute.train.common import lora, sharding
from constitute.train.common.batching import Batching, collate, micro_batches
from constitute.train.common.models import Actor, check_actor, load_model
from constitute.train.common.precision import held_dtype
from constitute.train.common.team import Team


def open_actor(model: str, config: DPOConfig, seed: int, team: Team) -> Actor:
    """The policy to train, on its device, sharded where the team is."""
    from transformers import AutoModelForCausalLM, set_seed

    set_seed(seed)
    network = load_model(AutoModelForCausalLM, model, dtype=held_dtype(trained=not config.lora_rank))
    network.to(team.load_device)
    actor = Actor(network)
    check_actor(actor, model)
    if team.sharding is not None:
        if config.lora_rank:
            # Before the weights are split. Adapters start without effect, so the reference is the same.
            torch.manual_seed(seed)
            lora.add_adapter(network, lora.POLICY, config.lora_rank)
        sharding.shard_actor(team.sharding, actor)
    return actor


def add_adapters(actor: Actor, config: DPOConfig, seed: int) -> None:
    """Put in the adapters that `config.lora_rank` asks for, unless the actor has them already."""
    network: Any = actor.model
    if config.lora_rank and not lora.layers(network):
        torch.manual_seed(seed)
        lora.add_adapter(network, lora.POLICY, config.lora_rank)


def sequence_logprobs(
    actor: Actor, sequences: Sequence[Sequence[int]], starts: Sequence[int], batching: Batching
) -> Tensor:
    """Summed log-probability (N,) of each sequence's tokens from its start on, at temperature 1, in nats."""
    device = actor.model.device
    groups = micro_batches([len(sequence) for sequence in sequences], batching.token_budget)
    groups = sharding.in_step(actor, groups)
    # No sequences are a sum of none: what a process has that was dealt no rows.
    parts = [torch.zeros(0, device=device)]
    for group in groups:
        batch = collate(
            [sequences[row] for row in group], [starts[row] for row in group], batching.pad_id, device
        )
        logprobs_N, _ = actor(batch, 1.0)
        own = torch.tensor(
            [len(sequences[row]) - starts[row] for row in group], dtype=torch.long, device=device
        )
        row_N = torch.arange(len(group), device=device).repeat_interleave(own)
        parts.append(torch.zeros(len(group), device=device).index_add(0, row_N, logprobs_N))
    places = torch.tensor([place for group in groups for place in group], dtype=torch.long, device=device)
    return torch.cat(parts)[places.argsort()]
