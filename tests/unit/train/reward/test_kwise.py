"""Rankings by hand: what pairs make one, its likelihood, and how well it uses the data."""

import itertools
import math
import random

import pytest
import torch
from pydantic import ValidationError
from tolerance import FORMULA, LOGPROB
from unit.train.reward.test_train import classifier, token_pairs

from constitute.config.train import RewardConfig
from constitute.data.pairs import PreferencePair
from constitute.train.reward.kwise import plackett_luce_loss, rankings_of
from constitute.train.reward.losses import examples_of
from constitute.train.reward.pairs import TokenPair
from constitute.types import Message

TURN = (Message(role="user", content="ask"),)
A, B, C, D = [1, 9, 4], [1, 9, 5], [1, 9, 6, 6], [1, 9, 7]


def compared(better, worse, prob=1.0, weight=1.0):
    return TokenPair(better, worse, 2, PreferencePair(TURN, "good", "bad", prob, weight))


def test_plackett_luce_by_hand():
    # Strengths 3, 2, 1: P(best first) = 3/6 * 2/3 = 1/3, P(worst first) = 1/6 * 2/5 = 1/15.
    scores = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64).log()
    assert plackett_luce_loss(scores).item() == pytest.approx(math.log(3.0), **FORMULA)
    assert plackett_luce_loss(scores.flip(0)).item() == pytest.approx(math.log(15.0), **FORMULA)
    both = torch.stack([scores, scores + 100.0])
    assert plackett_luce_loss(both).tolist() == pytest.approx([math.log(3.0)] * 2, **FORMULA)


def test_probabilities_of_all_orders_add_up_to_one():
    scores = torch.tensor([0.3, -1.2, 2.0, 0.7], dtype=torch.float64)
    orders = torch.tensor(list(itertools.permutations(range(4))))
    assert torch.exp(-plackett_luce_loss(scores[orders])).sum().item() == pytest.approx(1.0, **FORMULA)


def orders_of(pairs):
    """Of each ranking, its orders as last tokens, best first, with their shares."""
    return [
        {tuple(one.sequences[place][-1] for place in order): share for order, share in one.orders}
        for one in rankings_of(pairs, "soft")
    ]


def test_pairs_that_agree_are_one_ranking():
    pairs = [compared(B, C, 0.7), compared(A, C, 0.9), compared(B, A, 0.4)]
    # P(B over A) = 0.4 says that A is the better: A, B, C.
    assert orders_of(pairs) == [{(4, 5, 6): 1.0}]
    (one,) = rankings_of([compared(A, B, weight=0.5), compared(A, C), compared(B, C, weight=1.5)], "soft")
    assert (one.weight, one.tokens, len(one.sequences)) == (1.0, 10, 3)


def test_ties_stand_in_each_order_alike_whether_they_are_given_or_left_out():
    given = [compared(A, B), compared(A, C), compared(B, C, 0.5)]
    assert orders_of(given) == orders_of(given[:2]) == [{(4, 5, 6): 0.5, (4, 6, 5): 0.5}]


@pytest.mark.parametrize(
    "pairs",
    [
        [compared(A, B), compared(C, D)],  # who is between A and C?
        [compared(A, B), compared(B, C)],  # A and C were not compared
        [compared(A, B), compared(B, C), compared(C, A)],
        [compared(A, B), compared(A, C), compared(B, C), compared(B, C, 0.2)],  # twice
        [compared(A, B)],
        [compared([1, 9, 10], [1, 9, other]) for other in range(11, 16)],  # 120 orders of five ties
    ],
    ids=["apart", "gap", "circle", "twice", "two", "ties"],
)
def test_pairs_that_make_no_order_stay_pairs(pairs):
    found = rankings_of(pairs, "soft")
    assert [len(one.sequences) for one in found] == [2] * len(pairs)


def test_other_prompts_are_other_rankings():
    moved = [[2, 9, side[-1]] for side in (A, B, C)]
    pairs = [compared(A, B), compared(moved[0], moved[1]), compared(A, C), compared(B, C)]
    assert [len(one.sequences) for one in rankings_of(pairs, "soft")] == [3, 2]


@pytest.mark.parametrize("labels", ["soft", "hard", "clamped"])
@pytest.mark.parametrize("heads", [1, 3])
def test_of_two_answers_it_is_the_loss_of_pairs(labels, heads):
    model = classifier(heads)
    pairs = [
        TokenPair([number, *pair.chosen[1:]], [number, *pair.rejected[1:]], 1, pair.row)
        for number, pair in enumerate(token_pairs(9, weight=0.7), 3)
    ]
    losses = []
    for ranking in ("pairs", "kwise"):
        config = RewardConfig(labels=labels, heads=heads, ranking=ranking)
        examples = examples_of(model, model.score, pairs, config, 0, seed=1)
        assert examples.lengths == [pair.tokens for pair in pairs]
        losses.append([examples.loss_sum([row]).item() for row in range(9)])
        losses.append([examples.loss_sum([8, 2, 5]).item()])
    assert losses[2] == pytest.approx(losses[0], **LOGPROB)
    assert losses[3] == pytest.approx(losses[1], **LOGPROB)


def test_the_loss_of_a_ranking_is_that_of_its_scores():
    from transformers import LlamaForSequenceClassification

    model = classifier()
    assert isinstance(model, LlamaForSequenceClassification)
    pairs = [compared(B, C, weight=2.0), compared(A, C, weight=2.0), compared(B, A, weight=2.0)]
    examples = examples_of(model, model.score, pairs, RewardConfig(ranking="kwise"), 0, seed=0)
    assert examples.figures == {"rankings": 1, "pairs_in_no_ranking": 0}
    with torch.no_grad():
        own = [model(torch.tensor([side])).logits[0, 0].item() for side in (B, A, C)]
    parts = [math.log(sum(math.exp(s) for s in own[at:])) - own[at] for at in range(2)]
    assert examples.loss_sum([0]).item() == pytest.approx(2.0 * sum(parts), rel=1e-5)


def test_margins_have_no_place_in_a_ranking():
    with pytest.raises(ValidationError, match="margin is for ranking=pairs"):
        RewardConfig(ranking="kwise", margin=True)


def fitted(loss, width):
    """The minimum of a convex loss of a linear reward."""
    theta = torch.zeros(width, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([theta], max_iter=60, line_search_fn="strong_wolfe")

    def step():
        solver.zero_grad()
        value = loss(theta)
        value.backward()
        return value

    solver.step(step)
    return theta.detach()


def test_the_whole_order_says_more_than_its_pairs():
    """As arXiv 2301.11270 shows: the error of the ranking's likelihood is the smaller one."""
    truth = torch.tensor([2.0, -1.0, 1.5], dtype=torch.float64)
    errors = {"order": 0.0, "pairs": 0.0}
    first, second = torch.triu_indices(5, 5, 1)
    for seed in range(15):
        generator = torch.Generator().manual_seed(seed)
        phi_NKD = torch.randn(100, 5, 3, generator=generator, dtype=torch.float64)
        noise_NK = -torch.empty(100, 5, dtype=torch.float64).exponential_(generator=generator).log()
        order_NK = (phi_NKD @ truth + noise_NK).argsort(dim=1, descending=True)
        best_NKD = phi_NKD.gather(1, order_NK[..., None].expand_as(phi_NKD))
        by_order = fitted(lambda t, x=best_NKD: plackett_luce_loss(x @ t).mean(), 3)
        margins = best_NKD[:, first] - best_NKD[:, second]
        by_pairs = fitted(lambda t, x=margins: torch.nn.functional.softplus(-(x @ t)).mean(), 3)
        errors["order"] += (by_order - truth).square().sum().item()
        errors["pairs"] += (by_pairs - truth).square().sum().item()
    assert errors["order"] < 0.9 * errors["pairs"]
    assert errors["order"] / 15 < 0.12, "a fit that is not one would have errors near the truth's size, 7.25"


def test_orders_are_not_taken_from_the_order_of_rows():
    pairs = [compared(A, B), compared(A, C), compared(A, D), compared(B, C), compared(B, D), compared(C, D)]
    for seed in range(5):
        shuffled = random.Random(seed).sample(pairs, len(pairs))
        assert orders_of(shuffled) == [{(4, 5, 6, 7): 1.0}]
