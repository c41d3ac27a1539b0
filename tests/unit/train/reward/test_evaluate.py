"""Held-out figures of a reward model by hand: calibration, groups, lengths and heads."""

import math
import random

import pytest
import torch

from constitute.data.pairs import PreferencePair
from constitute.stats import calibration_error
from constitute.train.common.metrics import confidence_points, preference_metrics, reliability
from constitute.train.reward.evaluate import evaluate
from constitute.train.reward.model import Normalisation
from constitute.train.reward.pairs import TokenPair
from constitute.types import Message


def row(prob=0.9, **changes):
    return PreferencePair((Message(role="user", content="ask"),), "good", "bad", prob, **changes)


def test_calibration_by_hand():
    # 20 pairs, two bins of 10: the model says 0.6 and 0.9 of its choice.
    log_odds = [math.log(0.6 / 0.4)] * 10 + [-math.log(0.9 / 0.1)] * 10
    labels = [1.0] * 5 + [0.0] * 5 + [0.0] * 7 + [1.0] * 3
    bins = reliability(log_odds, labels, 0)
    assert [part["n"] for part in bins] == [10, 10]
    assert [part["predicted"] for part in bins] == pytest.approx([0.6, 0.9])
    assert [part["label"] for part in bins] == pytest.approx([0.5, 0.7])
    assert all(part["low"] < part["label"] < part["high"] for part in bins)
    figure = calibration_error(confidence_points(log_odds, labels), 0)
    assert figure.value == pytest.approx(0.5 * 0.1 + 0.5 * 0.2) and figure.n == 20
    assert figure.low <= figure.value <= figure.high
    # The same pairs with their sides swapped are the same predictions.
    swapped = calibration_error(confidence_points([-m for m in log_odds], [1 - y for y in labels]), 0)
    assert swapped.value == pytest.approx(figure.value)
    assert preference_metrics(log_odds, labels, seed=0)["ece"].n == 20


def test_a_model_that_knows_the_probabilities_is_calibrated_however_its_pairs_are_turned():
    rng = random.Random(0)
    margins = [rng.gauss(0, 1.5) for _ in range(5000)]
    drawn = [float(rng.random() < 1 / (1 + math.exp(-m))) for m in margins]
    # As exported: the chosen side is the one that won.
    turned = [m if y else -m for m, y in zip(margins, drawn, strict=True)]
    assert calibration_error(confidence_points(turned, [1.0] * 5000), 1).value < 0.03


def evaluated_pairs():
    def pair(chosen, rejected, prob, **changes):
        return TokenPair([1] * (2 + chosen), [1] * (2 + rejected), 2, row(prob, **changes))

    return [
        pair(10, 10, 0.9, principles=("p", "q"), source="a / b"),
        pair(30, 10, 0.8, principles=("p",), source="a"),
        pair(10, 12, 0.7, principles=("q",)),
        pair(12, 11, 0.5, principles=("q",), source="a"),
        pair(10, 17, 0.3),
    ]


def test_held_out_figures_by_group():
    chosen, rejected = [1.0, 2.0, -1.0, 3.0, 1.0], [0.0] * 5
    raw = torch.tensor(chosen + rejected)[:, None]
    found = evaluate(raw, evaluated_pairs(), Normalisation(), seed=0)
    assert (found["accuracy"].value, found["accuracy"].n) == (0.5, 4)
    assert {name: (f.value, f.n) for name, f in found["by_principle"].items()} == {
        "p": (1.0, 2), "q": (0.5, 2),
    }  # fmt: skip
    assert {name: f.n for name, f in found["by_source"].items()} == {"a": 1, "a / b": 1}
    assert {name: (f.value, f.n) for name, f in found["by_length"].items()} == {
        "under 10 %": (1.0, 1), "10-50 %": (0.0, 1), "50-100 %": (0.0, 1), "100 % and over": (1.0, 1),
    }  # fmt: skip
    # Of three pairs of unlike length the model takes the longer twice, the labels twice.
    longer = found["longer_wins"]
    assert (longer["model"].value, longer["model"].n) == (pytest.approx(2 / 3), 3)
    assert longer["labels"].value == pytest.approx(2 / 3)
    assert "heads" not in found and evaluate(raw[:0], [], Normalisation(), seed=0) == {}


def test_heads_are_compared():
    pairs = [TokenPair([1] * 4, [1] * 5, 2, row(0.9)) for _ in range(4)]
    margins = [[1.0, 1.0, 1.0], [1.0, -1.0, 1.0], [-1.0, -1.0, 2.0], [-1.0, -2.0, -3.0]]
    raw = torch.cat([torch.tensor(margins), torch.zeros(4, 3)])
    heads = evaluate(raw, pairs, Normalisation((0.0,) * 3, (1.0,) * 3, "min"), seed=0)["heads"]
    assert {name: head.value for name, head in heads["accuracy_each"].items()} == {
        "1": 0.5,
        "2": 0.25,
        "3": 0.75,
    }
    assert heads["unanimous"].value == 0.5
    assert heads["pairwise"].value == pytest.approx((1 + 1 / 3 + 1 / 3 + 1) / 4)
    assert heads["accuracy_unanimous"].value == 0.5
    # Means 1/3 and 0: a tie is not right.
    assert (heads["accuracy_split"].value, heads["accuracy_split"].n) == (0.5, 2)
    spread = [0.0, math.sqrt(8) / 3, math.sqrt(2), math.sqrt(2 / 3)]
    assert heads["spread"].value == pytest.approx(sum(spread) / 4)
    assert heads["accuracy_combined"].value == 0.25
