"""Pairs of one prompt put together into rankings, and the likelihood of a ranking of K answers.

The Plackett-Luce model: the best of K answers is chosen with probability softmax(score), then the best of
the rest (arXiv 2301.11270). Its likelihood uses the data better than the pairs that a ranking
splits into (shown there), and an answer is read once for all its pairs. Of two answers it is the
loss of pairs, soft labels included.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, groupby, permutations, product

import torch
from torch import Tensor

from constitute.config.train import RewardConfig
from constitute.train.reward.pairs import TokenPair, bootstrap_counts, target

# Answers that tie may stand in any order; beyond so many orders in all, pairs stay pairs.
_MOST_ORDERS = 24
_SAME = 1e-9


@dataclass(frozen=True)
class Ranking:
    """K answers to one prompt in tokens, prompt included, and the orders that they may stand in.

    An order lists places of `sequences`, the best first, and has a share of the belief; shares add up to 1.
    """

    sequences: tuple[list[int], ...]
    orders: tuple[tuple[tuple[int, ...], float], ...]
    weight: float = 1.0

    @property
    def tokens(self) -> int:
        """Tokens of all answers."""
        return sum(len(sequence) for sequence in self.sequences)


def plackett_luce_loss(scores: Tensor) -> Tensor:
    """-log P of the order given, best first: the sum over places of logsumexp(those left) - score.

    Takes (..., K) and gives (...). arXiv 2301.11270, with all K answers ranked.
    """
    left = scores.flip(-1).logcumsumexp(-1).flip(-1)
    return (left - scores)[..., :-1].sum(-1)


def rankings_of(pairs: Sequence[TokenPair], labels: str) -> list[Ranking]:
    """Rankings of the answers to each prompt, and as rankings of two the pairs that make none.

    The pairs of a prompt are one ranking where they agree: every answer has its place by the answers that it
    is preferred to, every pair of unlike places is compared and points the same way, and pairs of one place
    are ties (P = 0.5) or not there, as readers leave ties out. Ties stand in each order alike. A ranking
    weighs what its pairs weigh on average. Soft labels count in rankings of two; in longer ones the order
    does.
    """
    prompts: dict[tuple[int, ...], list[TokenPair]] = {}
    for pair in pairs:
        prompts.setdefault(tuple(pair.chosen[: pair.prompt_length]), []).append(pair)
    found: list[Ranking] = []
    for together in prompts.values():
        ranked = _ranking(together)
        found += [_of_two(pair, labels) for pair in together] if ranked is None else [ranked]
    return found


def _of_two(pair: TokenPair, labels: str) -> Ranking:
    prob = target(pair.row.chosen_prob, labels)
    return Ranking((pair.chosen, pair.rejected), (((0, 1), prob), ((1, 0), 1.0 - prob)), pair.row.weight)


def _ranking(pairs: Sequence[TokenPair]) -> Ranking | None:
    """The ranking that pairs of one prompt make; None for fewer than three answers, or no order."""
    answers = {tuple(side): side for pair in pairs for side in (pair.chosen, pair.rejected)}
    places = {key: place for place, key in enumerate(answers)}
    probs = {(one, other): 0.5 for one in range(len(places)) for other in range(len(places))}
    for pair in pairs:
        one, other = places[tuple(pair.chosen)], places[tuple(pair.rejected)]
        probs[one, other], probs[other, one] = pair.row.chosen_prob, 1.0 - pair.row.chosen_prob
    if len(places) < 3 or len({frozenset((tuple(p.chosen), tuple(p.rejected))) for p in pairs}) < len(pairs):
        return None
    sides = {pair: (prob > 0.5 + _SAME) - (prob < 0.5 - _SAME) for pair, prob in probs.items()}
    wins = [sum(sides[one, other] for other in range(len(places))) for one in range(len(places))]
    best_first = sorted(range(len(places)), key=lambda place: -wins[place])
    tiers = [list(tier) for _, tier in groupby(best_first, key=lambda place: wins[place])]
    if not _agree(tiers, sides) or math.prod(math.factorial(len(tier)) for tier in tiers) > _MOST_ORDERS:
        return None
    orders = [tuple(chain(*parts)) for parts in product(*(permutations(tier) for tier in tiers))]
    weight = sum(pair.row.weight for pair in pairs) / len(pairs)
    return Ranking(tuple(answers.values()), tuple((order, 1.0 / len(orders)) for order in orders), weight)


def _agree(tiers: Sequence[Sequence[int]], sides: dict[tuple[int, int], int]) -> bool:
    """Whether each answer wins against those of every lower tier, and against none of its own."""
    apart = all(
        sides[one, other] == 1 for high, low in combinations(tiers, 2) for one in high for other in low
    )
    return apart and all(sides[one, other] == 0 for tier in tiers for one, other in combinations(tier, 2))


def ranking_losses(
    scored: Callable[[Sequence[Sequence[int]]], Tensor],
    rankings: Sequence[Ranking],
    config: RewardConfig,
    device: torch.device,
    seed: int,
) -> Callable[[Sequence[int]], Tensor]:
    """The function from rows of `rankings` to their summed, weighted loss, a mean over the heads.

    `scored` gives raw scores (N, k) of N sequences. Each head sees its own resample of the rankings.
    """
    counts_Nk = torch.tensor(bootstrap_counts(len(rankings), config.heads, seed), device=device).T
    weight_Nk = counts_Nk * torch.tensor([[one.weight] for one in rankings], device=device) / config.heads

    def loss_sum(rows: Sequence[int]) -> Tensor:
        chosen = [rankings[row] for row in rows]
        raw_Nk = scored([sequence for one in chosen for sequence in one.sequences])
        total = raw_Nk.sum() * 0.0
        pieces = raw_Nk.split([len(one.sequences) for one in chosen])
        for row, one, raw_Kk in zip(rows, chosen, pieces, strict=True):
            index_OK = torch.tensor([order for order, _ in one.orders], device=device)
            share_O = torch.tensor([share for _, share in one.orders], device=device)
            loss_kO = plackett_luce_loss(raw_Kk.T[:, index_OK])
            total = total + ((loss_kO * share_O).sum(dim=1) * weight_Nk[row]).sum()
        return total

    return loss_sum
