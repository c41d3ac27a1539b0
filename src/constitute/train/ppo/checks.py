"""What a run refuses before it begins: settings that algorithm, models or prompts cannot serve."""

from __future__ import annotations

from collections.abc import Sequence

from constitute.config.ppo import PPOConfig
from constitute.errors import UsageError
from constitute.train.common.metrics import FEWEST
from constitute.train.ppo.algorithms import find_algorithm
from constitute.train.ppo.held_out import TOTAL, Rendered
from constitute.train.ppo.probe import Rollouter, Unopened
from constitute.train.ppo.setup import Models


def check_settings(config: PPOConfig, reference: str | None) -> None:
    """Raise `UsageError` for an algorithm that does not exist, and for what is asked of it in vain."""
    algorithm, at = find_algorithm(config), f"train.{config.section}"
    if reference is not None and not config.kl_coef:
        raise UsageError(
            f"a reference is given and {at}.kl_coef is 0, so that nothing is measured from it; leave the "
            f"reference out, or set {at}.kl_coef=1e-9 to measure the KL alone"
        )
    if config.value_warmup and not algorithm.needs_critic:
        raise UsageError(
            f"{at}.value_warmup trains a critic and {at}.advantage={config.advantage} has none; set "
            f"{at}.value_warmup=0, or {at}.advantage=gae"
        )


def check_renewable(models: Models, config: PPOConfig) -> None:
    """Raise `UsageError` where the reference cannot become the policy."""
    if config.reference_refresh is None or models.frozen is None:
        return
    at = f"train.{config.section}.reference_refresh"
    if models.learner.team.sharding is not None:
        raise UsageError(f"a reference whose weights are sharded is not renewed; remove {at}")
    ours = {name: weight.shape for name, weight in models.actor_critic.actor.model.named_parameters()}
    theirs = {name: weight.shape for name, weight in models.frozen.model.named_parameters()}
    if ours != theirs:
        raise UsageError(
            f"the reference is another kind of model than the policy and cannot become it; remove {at}, or "
            "take the reference that the policy started from"
        )


def check_held_out(
    held: Rendered, parts: Sequence[str], engine: Rollouter | Unopened | None, config: PPOConfig
) -> None:
    """Raise `UsageError` for what cannot be measured or stopped on."""
    _check_stop(config, parts, len(held[0]))
    if held[0] and getattr(engine, "replays", False):
        raise UsageError(
            "a replay holds no answers to held-out prompts; set "
            f"train.{config.section}.held_out=0 to learn from stored rollouts"
        )


def _check_stop(config: PPOConfig, parts: Sequence[str], prompts: int) -> None:
    """Raise `UsageError` for a part that does not exist, or too few prompts to tell a fall from chance."""
    at = f"train.{config.section}"
    if not config.stop_on:
        return
    if config.stop_on not in {*parts, TOTAL}:
        raise UsageError(
            f"{at}.stop_on names {config.stop_on}, and the parts of the reward are {', '.join(parts)}; "
            f"name one of them, or {TOTAL} for their weighted sum"
        )
    if prompts < FEWEST:
        raise UsageError(
            f"{at}.stop_on compares policies on {prompts} held-out prompts, too few to tell a fall from "
            f"chance; hold out {FEWEST} or more"
        )
