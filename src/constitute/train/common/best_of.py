"""The best of n as a policy: its KL, and an estimate of what it gains from more samples than n."""

from __future__ import annotations

import math
from functools import cache


def best_of_n_kl(n: int) -> float:
    """KL of best-of-n from the policy it samples, in nats: ln n - (n - 1)/n (arXiv 2009.01325, appendix G.3).

    An upper bound for a finite set of responses (arXiv 2401.01879).
    """
    return math.log(n) - (n - 1) / n


@cache
def rank_weights(total: int, n: int) -> tuple[float, ...]:
    """P(the sample of each rank, from the lowest, is the best of n drawn from `total` without replacement).

    Weighted so, the scores in ascending order give an unbiased estimate of the expected best of n (arXiv
    2112.09332, appendix I, as in 2210.10760): the sample of rank i is the best of C(i - 1, n - 1) of the
    C(total, n) subsets. Raises `ValueError` unless 1 <= n <= total.
    """
    if not 1 <= n <= total:
        raise ValueError(f"best of {n} needs from 1 to {total}, the number of samples")
    subsets = math.comb(total, n)
    return tuple(math.comb(rank, n - 1) / subsets for rank in range(total))


def sizes_up_to(largest: int) -> list[int]:
    """1, 2, 4 and so on, and `largest` itself."""
    powers = [2**power for power in range(largest.bit_length())]
    return powers if powers[-1] == largest else [*powers, largest]
