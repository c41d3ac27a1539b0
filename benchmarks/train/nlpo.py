"""What NLPO's mask (arXiv 2210.01241) does to the optimum of a task that can be enumerated.

The task of tests/e2e/train/test_gibbs.py: up to three tokens of 0, 1 and END, rewarded by the number of ones,
with a KL penalty of beta to the uniform reference. NLPO lets a policy sample only what is in the top p of an
earlier policy. Exact, by dynamic programming over the tokens that are left; nothing is sampled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

LIMIT = 3
REWARD = (0.0, 1.0, 0.0)
END = 2
# For each number of tokens left, the tokens that may be sampled.
Support = dict[int, tuple[int, ...]]
EVERYTHING: Support = dict.fromkeys(range(1, LIMIT + 1), (0, 1, END))


def best_policy(beta: float, support: Support) -> tuple[dict[int, list[float]], float]:
    """The policy of greatest reward - beta KL that keeps to the support, and that value.

    pi(a) is proportional to ref(a) exp((r(a) + V(next)) / beta), of which V is beta times the logarithm of
    the sum (arXiv 1702.08165, section 2).
    """
    value, policy = {0: 0.0}, {}
    for left in range(1, LIMIT + 1):
        weights = [
            math.exp((REWARD[token] + (0.0 if token == END else value[left - 1])) / beta) / 3
            if token in support[left]
            else 0.0
            for token in range(3)
        ]
        value[left] = beta * math.log(sum(weights))
        policy[left] = [weight / sum(weights) for weight in weights]
    return policy, value[LIMIT]


def nucleus(probs: Sequence[float], p: float) -> tuple[int, ...]:
    """The fewest tokens, likeliest first, that hold a probability of p."""
    kept: list[int] = []
    for token in sorted(range(len(probs)), key=lambda each: -probs[each]):
        if sum(probs[each] for each in kept) >= p:
            break
        kept.append(token)
    return tuple(sorted(kept))


def settled(beta: float, p: float) -> tuple[Support, float, float]:
    """Where masks of the policy's own top p settle: the support, the value, and the share of tokens cut.

    The share is that of the tokens that the optimum without a mask samples.
    """
    policy, _ = best_policy(beta, EVERYTHING)
    free, support = policy, EVERYTHING
    while True:
        narrower = {left: nucleus(policy[left], p) for left in policy}
        policy, value = best_policy(beta, narrower)
        if narrower == support:
            return support, value, outside(free, support)
        support = narrower


def outside(policy: dict[int, list[float]], support: Support) -> float:
    """The share of the tokens that `policy` samples which are not in the support."""
    reach, cut, tokens = 1.0, 0.0, 0.0
    for left in range(LIMIT, 0, -1):
        tokens += reach
        cut += reach * sum(prob for token, prob in enumerate(policy[left]) if token not in support[left])
        reach *= 1.0 - policy[left][END]
    return cut / tokens


def main(arguments: Sequence[str] = ()) -> None:
    """Print the value with and without the mask."""
    print("beta  p     value without  value with  lost   tokens outside the mask")
    for beta in (0.25, 0.5, 1.0, 2.0):
        _, best = best_policy(beta, EVERYTHING)
        for p in (0.5, 0.9, 0.95):
            _, value, share = settled(beta, p)
            lost = (best - value) / best
            print(f"{beta:<5g} {p:<5g} {best:<14.3f} {value:<11.3f} {lost:<6.1%} {share:.1%}")


if __name__ == "__main__":
    main()
