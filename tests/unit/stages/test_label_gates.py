"""Gates on labels: what passes, and the sentence of what does not."""

from __future__ import annotations

import pytest
from scripted import prompt

from constitute.config import GatesConfig
from constitute.stages.card import label_card
from constitute.stages.verdict import stopped_by, unmet
from constitute.types import Comparison, LabelledPair, PreferenceLabel, PrincipleVote


def row(p_ab: float, p_ba: float | None, human: float | None = None) -> LabelledPair:
    vote = PrincipleVote(principle_id="k", weight=1, p_ab=p_ab, p_ba=p_ba, mass_ab=0.9, mass_ba=0.9)
    pair = Comparison(id="p", prompt=prompt("p"), a="a", b="b", human=human)
    return LabelledPair(id="p", comparison=pair, label=PreferenceLabel(p_a=vote.p_a, votes=(vote,)))


# Three of ten flip; of the ten, people side with seven.
ROWS = [row(0.9, 0.8, 1.0)] * 6 + [row(0.9, 0.3, 1.0)] + [row(0.9, 0.3, 0.0)] * 2 + [row(0.9, 0.8, 0.0)]
CARD = label_card(ROWS, 0, 0)


@pytest.mark.parametrize(
    ("gates", "failed"),
    [
        ({}, 0),
        ({"min_agreement": 0.7}, 0),
        ({"min_agreement": 0.71}, 1),
        ({"max_order_flip": 0.3}, 0),
        ({"max_order_flip": 0.29}, 1),
        ({"min_agreement": 0.9, "max_order_flip": 0.0}, 2),
    ],
)
def test_the_figure_itself_is_held_against_the_limit(gates, failed):
    assert len(unmet(CARD, GatesConfig(**gates))) == failed


def test_the_sentence_holds_figure_interval_limit_and_remedy():
    first, second = unmet(CARD, GatesConfig(min_agreement=0.8, max_order_flip=0.1))
    # Wilson of 7/10 and 3/10.
    assert first.startswith(
        "the labels agree with people in 70.0 % (39.7 to 89.2, n = 10) of the pairs, and gates.min_agreement "
        "wants 80 %; give another --judge"
    )
    assert second.startswith(
        "the labels change with the order of the answers in 30.0 % (10.8 to 60.3, n = 10) of the pairs, and "
        "gates.max_order_flip allows 10 %; give another --judge"
    )
    assert stopped_by(CARD, GatesConfig(min_agreement=0.8)) == first
    both = stopped_by(CARD, GatesConfig(min_agreement=0.8, max_order_flip=0.1))
    assert both.startswith(first.split("; give")[0]) and second.split("; give")[0] in both
    assert both.count("give another --judge") == 1
    assert both.endswith("`constitute judge`, or lower --min-agreement, or raise --max-order-flip")
    assert stopped_by(CARD, GatesConfig()) == ""


def test_what_was_not_measured_does_not_pass():
    nobody = label_card([row(0.9, 0.8)] * 3, 0, 0)
    (said,) = unmet(nobody, GatesConfig(min_agreement=0.1))
    assert "wants 10 %: no pair is decided both by people and by the judge" in said and "--pairs" in said
    (said,) = unmet(label_card([], 3, 0), GatesConfig(max_order_flip=1.0))
    assert said.startswith("no pair has a label")


def test_a_method_without_an_order_cannot_flip():
    assert unmet(label_card([row(0.9, None)], 0, 0), GatesConfig(max_order_flip=0.0)) == []
