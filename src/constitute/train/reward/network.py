"""The network that becomes a reward model: a sequence classifier on its device."""

from __future__ import annotations

import math
from typing import Any

import torch

from constitute.config.train import RewardConfig
from constitute.errors import UsageError
from constitute.train.common import lora, sharding
from constitute.train.common.models import load_model
from constitute.train.common.precision import held_dtype
from constitute.train.common.team import Team
from constitute.train.reward.model import score_head


def open_network(
    model: str, tokenizer: Any, config: RewardConfig, seed: int, team: Team
) -> tuple[Any, torch.nn.Linear]:
    """The classifier that starts from `model` and its head, on the device of this process.

    Where weights are sharded, it holds its part of them. Raises `UsageError` for a model that cannot be one.
    """
    network, head = _classifier(model, tokenizer, config, seed)
    if team.sharding is not None:
        sharding.shard_trunk(team.sharding, network.base_model, head=head)
    network.to(team.device)
    return network, head


def _classifier(model: str, tokenizer: Any, config: RewardConfig, seed: int) -> tuple[Any, torch.nn.Linear]:
    """A sequence classifier, each row of a new head drawn from N(0, 1/sqrt(d + 1)) (arXiv 2009.01325).

    With `config.lora_rank` its trunk is frozen but for adapters.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification, set_seed

    set_seed(seed)
    heads = config.heads
    try:
        settings = AutoConfig.from_pretrained(model, trust_remote_code=False)
    except (OSError, ValueError) as problem:
        raise UsageError(
            f"cannot read the configuration of {model!r} ({type(problem).__name__}); give a model's folder"
        ) from problem
    was_reward = any("SequenceClassification" in name for name in settings.architectures or [])
    if was_reward and settings.num_labels != heads:
        raise UsageError(
            f"{model} is a reward model of {settings.num_labels} heads and train.reward.heads is {heads}; "
            "set it to the same number or start from a language model"
        )
    network = load_model(
        AutoModelForSequenceClassification,
        model,
        new=("score.weight",),
        num_labels=heads,
        dtype=held_dtype(trained=not config.lora_rank),
    )
    network.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    network.config.value_head_prefix = "score"
    head = score_head(network, model, heads).float()
    if not was_reward:
        torch.nn.init.normal_(head.weight, std=1.0 / math.sqrt(head.in_features + 1))
    if config.lora_rank:
        lora.add_adapter(network.base_model, lora.POLICY, config.lora_rank)
    return network, head
