"""Settings of PPO that cannot hold together, each with what to change."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from constitute.config.ppo import PPOConfig


def contradiction(config: PPOConfig) -> str | None:
    """The first thing that the settings of schedule, held-out prompts and penalties ask for in vain."""
    measured = isinstance(config.held_out, str) or config.held_out > 0
    for wrong, problem in (
        (
            config.value_warmup >= config.iterations,
            f"value_warmup {config.value_warmup} leaves none of {config.iterations} iterations to the "
            "policy; lower it, or raise iterations",
        ),
        (
            config.length_penalty > 0 and config.length_free >= config.max_new_tokens,
            f"length_free {config.length_free} is all that max_new_tokens allows, so that length_penalty "
            "takes nothing; lower length_free",
        ),
        (
            config.length_free > 0 and not config.length_penalty,
            "length_free does nothing without length_penalty; set both, or neither",
        ),
        (
            bool(config.stop_on) and not measured,
            "stop_on looks at held-out prompts; set held_out to a share of the prompts, such as 0.1, or to a "
            "file",
        ),
        (
            config.reference_refresh is not None and not config.kl_coef,
            "reference_refresh renews what the KL is measured from, and at kl_coef=0 there is none; set "
            "kl_coef above 0, or remove reference_refresh",
        ),
        (
            config.reference_refresh is not None and config.lora_rank > 0,
            "with adapters the reference is the policy with them off, which cannot be renewed; set "
            "lora_rank=0, or remove reference_refresh",
        ),
        (
            sum(one.share for one in config.mix) >= 1,
            f"the shares of mix add up to {sum(one.share for one in config.mix):g} and leave nothing for the "
            "run's own prompts; lower them",
        ),
    ):
        if wrong:
            return problem
    return None
