"""Say what goes wrong in a PPO run, from its metrics and samples alone: a sentence, its figures and a remedy.

Comparisons are made against the noise of the series, so that a run is not accused of what chance does;
each threshold stands once, by its rule, with where it comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from constitute.config.ppo import PPOConfig
from constitute.train.doctor import learning as signs_learning
from constitute.train.doctor import policy as signs_policy
from constitute.train.doctor.findings import Finding, Line, Sample, Seen

RULES: tuple[Callable[[Seen], list[Finding]], ...] = (
    signs_policy.kl_exploding,
    signs_policy.kl_negative,
    signs_policy.kl_coef_saturated,
    signs_policy.entropy_moved,
    signs_policy.length_moved,
    signs_policy.never_ends,
    signs_policy.phrases_spreading,
    signs_learning.reward_gamed,
    signs_learning.reward_not_rising,
    signs_learning.reward_constant,
    signs_learning.critic_useless,
    signs_learning.clip_fraction_high,
    signs_learning.ratio_off,
    signs_learning.gradients_clipped,
    signs_learning.sync_gap_wide,
    signs_learning.early_stops,
)
_GRAVEST_FIRST = ("stop", "warning", "note")


def diagnose(
    lines: Sequence[Line],
    samples: Sequence[Sample] = (),
    *,
    config: PPOConfig,
    watched: Sequence[str] = (),
) -> list[Finding]:
    """What is wrong after `lines`, the metrics of all iterations so far; the gravest first.

    `watched` names the parts of the reward of weight 0, whose means stand under `reward/<name>`. Metrics
    that are missing are not judged. Rules about change need 12 iterations.
    """
    seen = Seen(lines, samples, config, watched)
    found = [finding for rule in RULES for finding in rule(seen)]
    return sorted(found, key=lambda finding: _GRAVEST_FIRST.index(finding.severity))
