"""Load and wire what a PPO run works with: models, optimizer, schedule and device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from constitute.config.train import PPOConfig
from constitute.errors import UsageError
from constitute.train import _compat
from constitute.train.models import (
    Actor,
    ActorCritic,
    check_actor,
    load_model,
    load_tokenizer,
    zero_value_head,
)
from constitute.train.render import check_pad, eos_ids
from constitute.train.rollout import RewardFunction, Scorer
from constitute.train.scorer import RewardModel, value_head_of
from constitute.train.update import Learner


@dataclass(frozen=True)
class Players:
    """Everything a PPO run holds in memory. `critic_from` says what the value function started as."""

    tokenizer: Any
    eos: frozenset[int]
    learner: Learner
    scheduler: Any
    reference: Actor
    reward: Scorer | RewardFunction
    critic_from: str

    @property
    def actor_critic(self) -> ActorCritic:
        """The unwrapped actor and critic."""
        unwrapped: ActorCritic = self.learner.accelerator.unwrap_model(self.learner.model)
        return unwrapped


def set_up(policy: str, reward: str | RewardFunction, reference: str | None, config: PPOConfig) -> Players:
    """Load the models and prepare them. Raises `UsageError` for models that do not fit together."""
    _compat.quiet()
    from accelerate import Accelerator
    from transformers import AutoModelForCausalLM

    bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    accelerator = Accelerator(mixed_precision="bf16" if bf16 else "no")
    if accelerator.num_processes > 1:
        raise UsageError("train ppo runs as one process for now; start it without `accelerate launch`")
    frozen_type = torch.bfloat16 if bf16 else torch.float32
    tokenizer = load_tokenizer(policy)
    check_pad(tokenizer, policy)
    model = load_model(AutoModelForCausalLM, policy, dtype=torch.float32).to(accelerator.device)
    actor = Actor(model)
    check_actor(actor, policy)
    frozen = load_model(AutoModelForCausalLM, reference or policy, dtype=frozen_type)
    _same_vocabulary(model, frozen, policy, reference or policy)
    scorer, reward_model = _reward(reward, tokenizer, frozen_type, accelerator.device)
    actor_critic, critic_from = _actor_critic(actor, policy, reward, reward_model, config)
    learner, scheduler = _learner(actor_critic, config, accelerator, tokenizer.pad_token_id)
    return Players(
        tokenizer=tokenizer,
        eos=eos_ids(tokenizer, model.config, model.generation_config),
        learner=learner,
        scheduler=scheduler,
        reference=Actor(frozen.requires_grad_(False).to(accelerator.device)),
        reward=scorer,
        critic_from=critic_from,
    )


def _reward(
    reward: str | RewardFunction, tokenizer: Any, dtype: torch.dtype, device: torch.device
) -> tuple[Scorer | RewardFunction, Any]:
    """The scorer, and the reward model in fp32 where there is one (for the critic to start from)."""
    if callable(reward):
        return reward, None
    from transformers import AutoModelForSequenceClassification

    if load_tokenizer(reward).get_vocab() != tokenizer.get_vocab():
        raise UsageError(
            f"the reward model {reward} has another tokenizer than the policy; train it from the policy's "
            "own model family with `constitute train reward --model POLICY`"
        )
    model = load_model(AutoModelForSequenceClassification, reward, dtype=torch.float32)
    scorer = RewardModel(load_model(AutoModelForSequenceClassification, reward, dtype=dtype), reward, device)
    return scorer, model


def _actor_critic(
    actor: Actor, policy: str, reward: str | RewardFunction, reward_model: Any, config: PPOConfig
) -> tuple[ActorCritic, str]:
    from transformers import AutoModelForCausalLM

    width = actor.model.config.get_text_config().hidden_size
    if config.critic == "shared":
        critic, head, source = None, zero_value_head(width), "shared with the policy"
    elif reward_model is not None:
        critic, head, source = (
            reward_model.base_model,
            value_head_of(reward_model, str(reward)),
            "reward model",
        )
    else:
        critic = load_model(AutoModelForCausalLM, policy, dtype=torch.float32).base_model
        head, source = zero_value_head(width), "policy"
    module = ActorCritic(actor, critic, head)
    if config.gradient_checkpointing:
        for trunk in (actor.model, critic):
            if trunk is not None:
                trunk.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return module.train(config.gradient_checkpointing), source


def _learner(
    actor_critic: ActorCritic, config: PPOConfig, accelerator: Any, pad_id: int
) -> tuple[Learner, Any]:
    """Adam with eps 1e-5 (arXiv 1909.08593's code), one rate for the actor and one for the critic."""
    actor_critic.to(accelerator.device)
    actor = [p for p in actor_critic.actor.parameters() if p.requires_grad]
    critic_modules: Sequence[Any] = [
        m for m in (actor_critic.critic, actor_critic.value_head) if m is not None
    ]
    critic = [p for module in critic_modules for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": actor, "lr": config.learning_rate},
        {"params": critic, "lr": config.critic_learning_rate},
    ]
    optimizer = torch.optim.AdamW(groups, eps=1e-5, weight_decay=0.0, fused=True)
    if config.schedule == "linear":
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: 1.0 - done / config.iterations)
    else:
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: 1.0)
    model, optimizer = accelerator.prepare(actor_critic, optimizer)
    return Learner(model, optimizer, accelerator, actor, critic, pad_id), scheduler


def _same_vocabulary(model: Any, other: Any, name: str, other_name: str) -> None:
    ours, theirs = model.config.get_text_config().vocab_size, other.config.get_text_config().vocab_size
    if ours != theirs:
        raise UsageError(
            f"the reference {other_name} has a vocabulary of {theirs} tokens and the policy {name} of "
            f"{ours}; use the model the policy started from"
        )
