"""Load and wire what a PPO run works with: prompts that fit, models, rewards, optimizer and schedule."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from constitute.config.ppo import PPOConfig
from constitute.config.train import FOOTPRINT, Footprint
from constitute.engines.tokenizer import eos_ids, load_tokenizer, pad_of
from constitute.errors import DataError, UsageError
from constitute.train.common import lora, sharding
from constitute.train.common.artefact import model_identity
from constitute.train.common.batching import TokenBatch
from constitute.train.common.models import (
    Actor,
    ActorCritic,
    check_actor,
    load_model,
    zero_value_head,
)
from constitute.train.common.optimizers import make_optimizer
from constitute.train.common.precision import held_dtype, saved_dtype
from constitute.train.common.team import Team
from constitute.train.ppo.algorithms import find_algorithm
from constitute.train.ppo.schedule import actor_rate, critic_rate
from constitute.train.ppo.update import Learner
from constitute.train.reward.model import RewardModel, open_reward_model, value_head_of
from constitute.train.rewards.parts import RewardFunction, RewardPart, Scorer
from constitute.types import Prompt

Forward = Callable[[TokenBatch], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Models:
    """Everything a PPO run holds in memory. `critic_from` says what the value function started as.

    `reference` gives the log-probabilities of the response tokens under the frozen reference; it is None
    where `train.ppo.kl_coef` is 0, since nothing is then measured from it. `frozen` is the reference's own
    model, None where it is the policy without its adapters.
    """

    tokenizer: Any
    eos: frozenset[int]
    learner: Learner
    scheduler: Any
    reference: Forward | None
    rewards: dict[str, Scorer | RewardFunction]
    critic_from: str
    saved: torch.dtype = torch.float32
    """What the policy is saved in."""
    frozen: Actor | None = None

    @property
    def actor_critic(self) -> ActorCritic:
        """The actor and the critic."""
        return self.learner.model


def input_hashes(
    prompt_ids: Sequence[Sequence[int]], policy: str, parts: Sequence[RewardPart], reference: str | None
) -> dict[str, str]:
    """What a run is made from, by name: part of its recipe."""
    rendered = hashlib.sha256(json.dumps([list(ids) for ids in prompt_ids]).encode()).hexdigest()[:16]
    found = {
        "prompts": rendered,
        "policy": model_identity(policy),
        "reference": model_identity(reference or policy),
    }
    for part in parts:
        known = model_identity(part.source) if isinstance(part.source, str) else part.identity
        found[f"reward/{part.name}"] = f"{part.weight:g}*{part.identity or known}"
    return found


def fitting(
    prompts: Sequence[Prompt], prompt_ids: Sequence[Sequence[int]], limit: int | None, config: PPOConfig
) -> tuple[list[Prompt], list[list[int]]]:
    """The prompts that leave room for a whole response. Raises `DataError` where there are none."""
    room = None if limit is None else limit - config.max_new_tokens
    kept = [pair for pair in zip(prompts, prompt_ids, strict=True) if room is None or len(pair[1]) <= room]
    if not kept:
        raise DataError(
            "there are no prompts to train on"
            if not prompts
            else f"no prompt leaves room for {config.max_new_tokens} new tokens in a context of {limit}; "
            f"lower train.{config.section}.max_new_tokens or raise engine.context_length"
        )
    return [pair[0] for pair in kept], [list(pair[1]) for pair in kept]


def set_up(
    policy: str,
    parts: Sequence[RewardPart],
    reference: str | None,
    config: PPOConfig,
    team: Team,
    seed: int,
    footprint: Footprint = FOOTPRINT,
) -> Models:
    """Load the models. Raises `UsageError` for models that do not fit together."""
    from transformers import AutoModelForCausalLM, set_seed

    # Adapters start at random, and must start alike in every process.
    set_seed(seed)
    frozen_type = held_dtype(trained=False)
    tokenizer = load_tokenizer(policy)
    pad_id = pad_of(tokenizer, policy)
    own_type = held_dtype(trained=not config.lora_rank)
    model = load_model(AutoModelForCausalLM, policy, dtype=own_type).to(team.load_device)
    actor = Actor(model)
    check_actor(actor, policy)
    anchor = _reference(actor, policy, reference, config, frozen_type, team) if config.kl_coef else None
    rewards: dict[str, Scorer | RewardFunction] = {
        part.name: _scorer(part.source, tokenizer, policy, frozen_type, team)
        if isinstance(part.source, str)
        else part.source
        for part in parts
    }
    if config.lora_rank:
        lora.add_adapter(model, lora.POLICY, config.lora_rank)
    actor_critic, critic_from = _actor_critic(actor, policy, parts, config)
    learner, scheduler = _learner(actor_critic, config, team, pad_id, footprint.optimizer)
    ends = eos_ids(tokenizer, model.config, model.generation_config)
    saved = saved_dtype(footprint.save_dtype, policy)
    forward, frozen = anchor or (None, None)
    return Models(tokenizer, ends, learner, scheduler, forward, rewards, critic_from, saved, frozen)


def _reference(
    actor: Actor,
    policy: str,
    reference: str | None,
    config: PPOConfig,
    dtype: torch.dtype,
    team: Team,
) -> tuple[Forward, Actor | None]:
    """The frozen reference: a model of its own, or the policy without its adapters and no model."""
    from transformers import AutoModelForCausalLM

    if config.lora_rank and reference in (None, policy):
        return partial(_reference_logprobs, actor, config.temperature, adapter_off=True), None
    model = load_model(AutoModelForCausalLM, reference or policy, dtype=dtype)
    _same_vocabulary(actor.model, model, policy, reference or policy)
    frozen = Actor(model.requires_grad_(False).to(team.load_device))
    if team.sharding is not None:
        sharding.shard_actor(team.sharding, frozen, frozen=True)
    return partial(_reference_logprobs, frozen, config.temperature, adapter_off=False), frozen


def _scorer(folder: str, tokenizer: Any, policy: str, dtype: torch.dtype, team: Team) -> RewardModel:
    """A reward model, its trunk sharded like the rest; the head is small and stays whole."""
    scorer = open_reward_model(folder, tokenizer, policy, dtype, team.load_device)
    if team.sharding is not None:
        sharding.shard_trunk(team.sharding, scorer.model.base_model, frozen=True)
        scorer.head.to(team.device)
    return scorer


def _reference_logprobs(
    actor: Actor, temperature: float, batch: TokenBatch, *, adapter_off: bool
) -> tuple[Tensor]:
    with lora.active(actor.model, None) if adapter_off else nullcontext():
        return (actor(batch, temperature)[0],)


def _actor_critic(
    actor: Actor, policy: str, parts: Sequence[RewardPart], config: PPOConfig
) -> tuple[ActorCritic, str]:
    if not find_algorithm(config).needs_critic:
        return _checkpointing(
            ActorCritic(actor, None, None), config
        ), f"none: {config.advantage} needs no critic"
    width = actor.model.config.get_text_config().hidden_size
    if config.critic == "shared":
        return _checkpointing(
            ActorCritic(actor, None, zero_value_head(width)), config
        ), "shared with the policy"
    if config.critic == "lora":
        lora.add_adapter(actor.model, lora.CRITIC, config.lora_rank)
        return ActorCritic(actor, None, zero_value_head(width), lora.CRITIC), "adapters on the policy's trunk"
    folder = next((part.source for part in parts if isinstance(part.source, str) and part.weight), None)
    critic, head, source = _separate_critic(policy, folder, width, config.lora_rank)
    return _checkpointing(ActorCritic(actor, critic, head), config), source


def _separate_critic(policy: str, reward: str | None, width: int, lora_rank: int) -> tuple[Any, Any, str]:
    """Trunk and head of the critic: the reward model's, or the policy's and a head that starts at zero.

    With `lora_rank` the trunk is frozen but for adapters of its own, as the policy's is.
    """
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    dtype = held_dtype(trained=not lora_rank)
    if reward is None:
        trunk = load_model(AutoModelForCausalLM, policy, dtype=dtype).base_model
        head, source = zero_value_head(width), "policy"
    else:
        model = load_model(AutoModelForSequenceClassification, reward, dtype=dtype)
        trunk, head, source = model.base_model, value_head_of(model, reward), "reward model"
    if lora_rank:
        lora.add_adapter(trunk, lora.CRITIC, lora_rank)
    return trunk, head, source


def _checkpointing(module: ActorCritic, config: PPOConfig) -> ActorCritic:
    if config.gradient_checkpointing:
        trunks: list[Any] = [module.actor.model, module.critic]
        for trunk in trunks:
            if trunk is not None:
                trunk.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return module


def _learner(
    actor_critic: ActorCritic, config: PPOConfig, team: Team, pad_id: int, optimizer_name: str
) -> tuple[Learner, Any]:
    """Adam with eps 1e-5 (arXiv 1909.08593's code), one rate for the actor and one for the critic."""
    if team.sharding is not None:
        sharding.shard_actor(team.sharding, actor_critic.actor)
        if actor_critic.critic is not None:
            sharding.shard_trunk(team.sharding, actor_critic.critic)
        if actor_critic.value_head is not None:
            sharding.shard_head(team.sharding, actor_critic.value_head)
    # Checkpointing works in training mode only; dropout is off in either.
    actor_critic.to(team.device).train(config.gradient_checkpointing)
    critic = _weights(actor_critic.critic) + _weights(actor_critic.value_head)
    if actor_critic.critic_adapter is not None:
        critic += lora.parameters(actor_critic.actor.model, actor_critic.critic_adapter)
    known = {id(weight) for weight in critic}
    actor = [weight for weight in _weights(actor_critic.actor) if id(weight) not in known]
    groups = [
        {"params": actor, "lr": config.learning_rate},
        {"params": critic, "lr": config.critic_learning_rate},
    ]
    optimizer = make_optimizer(
        optimizer_name, groups, lr=config.learning_rate, eps=1e-5, sharded=team.sharding is not None
    )
    rates: list[Callable[[int], float]] = [partial(rate, config=config) for rate in (actor_rate, critic_rate)]
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rates)
    return Learner(actor_critic, optimizer, team, actor, critic, pad_id), scheduler


def _weights(module: Any) -> list[torch.nn.Parameter]:
    return [] if module is None else [weight for weight in module.parameters() if weight.requires_grad]


def _same_vocabulary(model: Any, other: Any, name: str, other_name: str) -> None:
    ours, theirs = model.config.get_text_config().vocab_size, other.config.get_text_config().vocab_size
    if ours != theirs:
        raise UsageError(
            f"the reference {other_name} has a vocabulary of {theirs} tokens and the policy {name} of "
            f"{ours}; use the model the policy started from"
        )
