"""Say what goes wrong in a PPO run, from its metrics and samples alone: a sentence, its figures and a remedy.

A change is compared with the noise of its series, so that chance alone raises no finding. Each threshold is
defined once, beside the checks that use it, with its source.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from constitute.config.ppo import PPOConfig
from constitute.train.doctor import learning, policy
from constitute.train.doctor.evidence import Evidence, Line, SampledResponse, TrainingFinding

CHECKS: tuple[Callable[[Evidence], list[TrainingFinding]], ...] = (
    policy.kl_exploding,
    policy.kl_negative,
    policy.kl_coef_saturated,
    policy.entropy_moved,
    policy.length_moved,
    policy.never_ends,
    policy.phrases_spreading,
    learning.reward_gamed,
    learning.held_out_gamed,
    learning.reward_not_rising,
    learning.reward_constant,
    learning.critic_useless,
    learning.clip_fraction_high,
    learning.ratio_off,
    learning.gradients_clipped,
    learning.sync_gap_wide,
    learning.early_stops,
)
_GRAVEST_FIRST = ("stop", "warning", "note")


def diagnose(
    lines: Sequence[Line],
    samples: Sequence[SampledResponse] = (),
    *,
    config: PPOConfig,
    watched: Sequence[str] = (),
    section: str = "ppo",
) -> list[TrainingFinding]:
    """What is wrong after `lines`, the metrics of all iterations so far; the gravest first.

    `watched` names the parts of the reward of weight 0, whose means stand under `reward/<name>`. Metrics
    that are missing are not judged. `section` is the one of `train` that remedies name. Checks of a change
    need 12 iterations.
    """
    run = Evidence(lines, samples, config, watched)
    found = [_named(one, section) for check in CHECKS for one in check(run)]
    return sorted(found, key=lambda one: _GRAVEST_FIRST.index(one.severity))


def _named(found: TrainingFinding, section: str) -> TrainingFinding:
    remedy = found.remedy.replace("train.ppo.", f"train.{section}.")
    return found.model_copy(update={"remedy": remedy})
