"""The formulas of PPO and of the reward model, as pure functions of tensors.

Shapes: B responses, T tokens of the longest response, N tokens in a row. A mask is 1.0 on the tokens
of a response and 0.0 beyond its end. Log-probabilities are in nats and already divided by the
sampling temperature. Every tensor holds the whole batch, whichever process computed which row.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` where `mask` is 1; 0.0 for an empty mask."""
    return (values * mask).sum() / mask.sum().clamp(min=1.0)


def whiten(values: Tensor, mask: Tensor) -> Tensor:
    """Bring to mean 0 and (biased) variance 1 over the mask; 0 elsewhere. As in arXiv 1909.08593's code."""
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean) ** 2, mask)
    return (values - mean) * torch.rsqrt(variance + 1e-8) * mask


def token_rewards(
    score_B: Tensor, logprobs_BT: Tensor, ref_logprobs_BT: Tensor, mask_BT: Tensor, kl_coef: float
) -> Tensor:
    """Per-token reward: -kl_coef * (log pi - log pi_ref), plus the score on the last generated token.

    The k1 estimate of the KL, unclamped (arXiv 1909.08593, equation 2; 2009.01325, section 3.4).
    """
    rewards_BT = -kl_coef * (logprobs_BT - ref_logprobs_BT) * mask_BT
    last_B = mask_BT.sum(dim=1).long() - 1
    assert bool((last_B >= 0).all()), "a response has no token"
    return rewards_BT.scatter_add(1, last_B[:, None], score_B[:, None].to(rewards_BT.dtype))


def gae(rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, gamma: float, lam: float) -> Tensor:
    """Generalised advantage estimates (arXiv 1506.02438, equation 16); the end of a response is terminal."""
    masked_values_BT = values_BT * mask_BT
    advantages = torch.zeros_like(rewards_BT)
    ahead = next_value = torch.zeros_like(rewards_BT[:, 0])
    for t in reversed(range(rewards_BT.shape[1])):
        delta = rewards_BT[:, t] + gamma * next_value - masked_values_BT[:, t]
        ahead = (delta + gamma * lam * ahead) * mask_BT[:, t]
        advantages[:, t] = ahead
        next_value = masked_values_BT[:, t]
    return advantages


def clipped_policy_loss(
    new: Tensor,
    old: Tensor,
    advantages: Tensor,
    clip: float,
    clip_high: float | None = None,
    dual_clip: float | None = None,
) -> Tensor:
    """Per-token -min(r A, clip(r) A) with r = pi/pi_old (arXiv 1707.06347, equation 7).

    r is cut to [1 - clip, 1 + clip_high], `clip_high` being `clip` where it is None (arXiv 2503.14476,
    equation 10). With `dual_clip`, a loss of A < 0 is at most -dual_clip A (arXiv 1912.09729, equation 5).
    """
    ratio = torch.exp(new - old)
    high = clip if clip_high is None else clip_high
    loss = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1.0 - clip, 1.0 + high))
    if dual_clip is None:
        return loss
    return torch.where(advantages < 0, torch.minimum(loss, -dual_clip * advantages), loss)


def response_sums(values_N: Tensor, lengths_B: Tensor) -> Tensor:
    """The sum over each response (B,); tokens stand response after response."""
    row_N = torch.repeat_interleave(torch.arange(len(lengths_B), device=values_N.device), lengths_B)
    sums_B = torch.zeros(len(lengths_B), dtype=values_N.dtype, device=values_N.device)
    return sums_B.index_add(0, row_N, values_N)


def response_means(values_N: Tensor, lengths_B: Tensor) -> Tensor:
    """Each token's value replaced by the mean over its response; tokens stand response after response."""
    return (response_sums(values_N, lengths_B) / lengths_B).repeat_interleave(lengths_B)


def clipped_value_loss(new: Tensor, old: Tensor, returns: Tensor, clip: float) -> Tensor:
    """Per-token half squared error, the larger of clipped and unclipped (arXiv 1909.08593's code)."""
    near = old + (new - old).clamp(-clip, clip)
    return 0.5 * torch.maximum((new - returns) ** 2, (near - returns) ** 2)


def clipped_fraction(new: Tensor, old: Tensor, clip: float, clip_high: float | None = None) -> Tensor:
    """1.0 where the probability ratio left [1 - clip, 1 + clip_high]; `clip_high` None is `clip`."""
    change = torch.expm1(new - old)
    return ((change < -clip) | (change > (clip if clip_high is None else clip_high))).to(new.dtype)


def importance_weights(logprobs: Tensor, sampled: Tensor, cap: float) -> Tensor:
    """min(pi_trainer / pi_engine, cap) of each token: corrects for an engine that samples from a slightly
    different distribution (truncated importance sampling, Ionides 2008)."""
    return torch.exp(logprobs - sampled).clamp(max=cap)


def approx_kl(new: Tensor, old: Tensor) -> Tensor:
    """Per-token k2 estimate of the change of policy: half the squared log-ratio. Never negative."""
    return 0.5 * (new - old) ** 2


def k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Per-token k3 estimate of KL(pi || pi_ref): exp(-d) - 1 + d, d = log pi - log pi_ref. Never negative."""
    log_ratio = ref_logprobs - logprobs
    return torch.expm1(log_ratio) - log_ratio


def kl_estimate(name: str, logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Per-token `k1` (d), `k2` (d^2 / 2) or `k3` estimate of KL(pi || pi_ref), d = log pi - log pi_ref."""
    if name == "k1":
        return logprobs - ref_logprobs
    return approx_kl(logprobs, ref_logprobs) if name == "k2" else k3(logprobs, ref_logprobs)


def adaptive_kl(coef: float, kl: float, target: float, episodes: int, horizon: int) -> float:
    """Next KL coefficient: proportional control, error clipped to 0.2 (arXiv 1909.08593, section 2.2)."""
    error = min(max(kl / target - 1.0, -0.2), 0.2)
    return coef * (1.0 + error * episodes / horizon)


def explained_variance(returns: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """1 - Var(returns - values) / Var(returns) over the mask; NaN where the returns do not vary."""

    def variance(x: Tensor) -> Tensor:
        return masked_mean((x - masked_mean(x, mask)) ** 2, mask)

    spread = variance(returns)
    return torch.where(spread > 0, 1.0 - variance(returns - values) / spread, torch.nan)


def soft_label_loss(chosen_B: Tensor, rejected_B: Tensor, chosen_prob_B: Tensor) -> Tensor:
    """Per-pair cross-entropy of sigmoid(r_chosen - r_rejected) against P(chosen) (arXiv 2309.00267)."""
    return binary_cross_entropy_with_logits(chosen_B - rejected_B, chosen_prob_B, reduction="none")
