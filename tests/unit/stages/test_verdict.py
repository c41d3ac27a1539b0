"""When labels say nothing: scripted judges at default settings, false alarms, limits by hand."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from scripted import ScriptedEngine, constitution, prompt

from constitute.config import RunConfig
from constitute.constitution.write import to_yaml
from constitute.pipeline import run_stages
from constitute.stages.card import card_of, label_card
from constitute.stages.card.records import LabelCard
from constitute.stages.verdict import LabelVerdict, label_warnings, verdict
from constitute.store import Store
from constitute.types import Choice, Comparison, LabelledPair, PreferenceLabel, PrincipleVote, Request

# P(the first label), P(the second), by the text of the question.
Script = Callable[[str], tuple[float, float]]


class Judge(ScriptedEngine):
    """Answers every comparison by a rule."""

    def __init__(self, script: Script) -> None:
        super().__init__("judge")
        self._script = script

    async def choose(self, request: Request, labels, *, spelled: bool = False) -> Choice:
        first, second = self._script(request.messages[-1].content)
        return Choice(labels=tuple(labels), logprobs=(math.log(first), math.log(second)))


def judged(tmp_path: Path, script: Script, n: int = 40) -> tuple[LabelCard, LabelVerdict | None]:
    """The card and verdict of n pairs that a scripted judge labels with the settings as they are."""
    (tmp_path / "c.yaml").write_text(to_yaml(constitution()))
    pairs = [Comparison(id=f"q{i}", prompt=prompt(f"q{i}"), a=f"good {i}", b=f"bad {i}") for i in range(n)]
    config = RunConfig(constitution=str(tmp_path / "c.yaml"), run=tmp_path / "run")
    run_stages(config, ["label"], pairs=pairs, engine=Judge(script))
    with Store.open(tmp_path / "run", readonly=True) as store:
        card = card_of(store)
    return card, verdict(card)


def noise(text: str) -> float:
    return random.Random(text).uniform(-1, 1)


def order_only(text: str) -> tuple[float, float]:
    p = 0.85 + 0.1 * noise(text)
    return p, 1 - p


def constant(text: str) -> tuple[float, float]:
    return 0.5, 0.5


def constant_and_last(text: str) -> tuple[float, float]:
    return 0.499, 0.501


def low_mass(text: str) -> tuple[float, float]:
    """As SmolLM2-135M: 0.17 on average, some under the limit at which a pair abstains."""
    mass = 0.17 + 0.12 * noise(text)
    p = 0.9 if text.index("good") < text.index("bad") else 0.1
    return mass * p, mass * (1 - p)


def no_mass(text: str) -> tuple[float, float]:
    return 0.01, 0.02


def healthy(text: str) -> tuple[float, float]:
    p = 0.7 + 0.2 * noise(text)
    p = p if text.index("good") < text.index("bad") else 1 - p
    return 0.95 * p, 0.95 * (1 - p)


@pytest.mark.parametrize(
    ("script", "kind", "said"),
    [
        (order_only, "order", "the answers give opposite labels in 100.0 % (91.2 to 100.0, n = 40)"),
        (constant, "constant", "P(A) is 0.50, up to 0.01, in 100.0 % (91.2 to 100.0, n = 40) of the pairs"),
        (constant_and_last, "order", "opposite labels in 100.0 %"),
        (low_mass, "mass", "less than 0.2 probability"),
        (no_mass, "mass", "100.0 % (91.2 to 100.0, n = 40) of the pairs (40 without a label)"),
    ],
)  # fmt: skip
def test_judges_that_say_nothing_at_default_settings(tmp_path, script, kind, said):
    _, found = judged(tmp_path, script)
    assert found is not None and found.kind == kind
    assert found.sentence.startswith("these labels say nothing of the answers: ") and said in found.sentence
    assert "--judge" in found.sentence and "label.method" in found.sentence
    assert "`constitute judge`" in found.sentence and found.sentence.count(". ") == 0


def test_a_healthy_judge_gets_no_verdict(tmp_path):
    card, found = judged(tmp_path, healthy)
    assert found is None and card.flipped < 4 and card.pairs == 40


def test_low_mass_is_counted_over_all_that_was_asked(tmp_path):
    card, found = judged(tmp_path, low_mass)
    assert card.silent == card.abstained > 0 and card.silent + card.pairs == 40
    assert found is not None and found.share.n == 40
    assert found.share.value == (card.silent + card.thin) / 40


def test_equal_answers_are_no_silence_of_the_judge():
    card = label_card([], abstained=50, failed=0, equal=50)
    assert (card.silent, verdict(card)) == (0, None)
    silent = verdict(label_card([], abstained=50, failed=0, equal=40))
    assert silent is not None and silent.kind == "mass" and silent.share.n == 10


def vote(p_ab: float, p_ba: float | None, mass: float | None = 0.95) -> PrincipleVote:
    return PrincipleVote(principle_id="k", weight=1, p_ab=p_ab, p_ba=p_ba, mass_ab=mass, mass_ba=mass)


def row(*votes: PrincipleVote, human: float | None = None, a: str = "aa", b: str = "b") -> LabelledPair:
    pair = Comparison(id="p", prompt=prompt("p"), a=a, b=b, human=human)
    p_a = sum(v.p_a for v in votes) / len(votes)
    return LabelledPair(id="p", comparison=pair, label=PreferenceLabel(p_a=p_a, votes=votes))


FLIPS, HOLDS = (vote(0.9, 0.3), vote(0.2, 0.8)), (vote(0.9, 0.7), vote(0.2, 0.1))


def mixed(flipped: int, n: int) -> LabelCard:
    votes = [FLIPS[i % 2] if i < flipped else HOLDS[i % 2] for i in range(n)]
    return label_card([row(each) for each in votes], 0, 0)


@pytest.mark.parametrize(
    ("flipped", "n", "caught"),
    [(5, 5, False), (15, 15, False), (16, 16, True), (28, 30, False), (29, 30, True), (75, 100, False)],
)
def test_the_limit_of_the_order_by_hand(flipped, n, caught):
    """Wilson's lower end above 0.8: 15/15 gives 0.796, 16/16 0.806, 28/30 0.787, 29/30 0.833."""
    assert (verdict(mixed(flipped, n)) is not None) == caught


@pytest.mark.parametrize(
    ("silent", "n", "caught"), [(3, 3, False), (4, 4, True), (18, 30, False), (21, 30, True)]
)
def test_the_limit_of_the_mass_by_hand(silent, n, caught):
    """Wilson's lower end above 0.5: 3/3 gives 0.438, 4/4 0.510, 18/30 0.423, 21/30 0.521."""
    card = label_card([row(HOLDS[i % 2]) for i in range(n - silent)], silent, 0)
    assert (verdict(card) is not None) == caught


def test_votes_on_one_pair_are_one_case():
    """Sixteen principles that all flip on three pairs are three cases, not 48."""
    card = label_card([row(*[FLIPS[i % 2]] * 16) for i in range(3)], 0, 0)
    assert (card.flips, card.ordered, card.flipped, card.ordered_pairs) == (48, 48, 3, 3)
    assert verdict(card) is None


def test_a_method_without_an_order_is_judged_by_its_spread_alone():
    flat = label_card([row(vote(0.505 + 0.004 * (i % 2), None, None)) for i in range(20)], 0, 0)
    found = verdict(flat)
    assert flat.ordered_pairs == 0 and found is not None and found.kind == "constant"
    assert verdict(label_card([row(vote(0.45 + 0.01 * i, None, None)) for i in range(20)], 0, 0)) is None


@pytest.mark.parametrize(("alike", "n", "caught"), [(15, 15, 0), (16, 16, 1), (48, 50, 0), (49, 50, 1)])
def test_the_limit_of_a_constant_by_hand(alike, n, caught):
    """Wilson's lower end above 0.8, and 98 % of those seen: a grader may find little and still tell."""
    rows = [row(vote(0.5, None, None)) for _ in range(alike)]
    rows += [row(vote(0.8, None, None)) for _ in range(n - alike)]
    assert (verdict(label_card(rows, 0, 0)) is not None) == caught


def test_a_sure_judge_of_pairs_with_the_better_answer_first_is_no_constant():
    assert verdict(label_card([row(vote(0.999, 0.998)) for _ in range(200)], 0, 0)) is None


@pytest.mark.parametrize("n", [30, 100, 1000])
def test_false_alarms_and_misses(n):
    """A judge that flips 16 % trips in under 1 % of cases, one that sees the order alone in over 99 %."""
    rng = random.Random(n)
    cases = 400 if n < 1000 else 40
    healthy_trips = sum(
        verdict(mixed(sum(rng.random() < 0.16 for _ in range(n)), n)) is not None for _ in range(cases)
    )
    assert healthy_trips / cases < 0.01

    def blind() -> LabelledPair:
        first = rng.uniform(0.55, 0.99)
        return row(vote(first, 1 - rng.uniform(0.55, 0.99)))

    caught = sum(
        verdict(label_card([blind() for _ in range(n)], 0, 0)) is not None for _ in range(cases // 4)
    )
    assert caught / (cases // 4) > 0.99


def test_agreement_by_hand():
    """Ten pairs: 6 of 8 decided by both agree, so kappa is (0.75 - 0.5) / 0.5; two ties are apart."""
    rows = [row(vote(0.9, 0.7), human=1.0)] * 4 + [row(vote(0.2, 0.1), human=0.0)] * 2
    rows += [row(vote(0.2, 0.1), human=1.0), row(vote(0.9, 0.7), human=0.3)]
    rows += [row(vote(0.9, 0.7), human=0.5), row(vote(0.6, 0.4), human=1.0), row(vote(0.9, 0.9))]
    found = label_card(rows, 0, 0).agreement
    assert found is not None
    assert (found.accuracy.value, found.accuracy.n) == (0.75, 8)
    assert (found.human_ties, found.label_ties) == (1, 1)
    assert found.kappa.value == pytest.approx(0.5) and found.kappa.n == 8
    # Wilson of 6/8 is 0.4093 to 0.9285.
    assert found.kappa.low == pytest.approx(2 * 0.40927 - 1, abs=1e-4)
    assert found.kappa.high == pytest.approx(2 * 0.92852 - 1, abs=1e-4)


def test_longer_wins_by_hand_against_the_people():
    rows = [row(vote(0.9, 0.7), a="longer", b="short", human=0.0)] * 3
    rows += [
        row(vote(0.9, 0.7), a="short", b="longer", human=1.0),
        row(vote(0.2, 0.1), a="one", b="two", human=1.0),
    ]
    rows += [row(vote(0.2, 0.1), a="short", b="longer")]
    card = label_card(rows, 0, 0)
    assert (card.longer.value, card.longer.n) == (4 / 5, 5)
    assert (card.longer_human.value, card.longer_human.n) == (0.0, 4)


def test_a_card_is_json_and_back(tmp_path):
    card, _ = judged(tmp_path, healthy, 5)
    assert LabelCard.model_validate(json.loads(card.model_dump_json())) == card


@pytest.mark.parametrize(
    ("flipped", "n", "counted"),
    [
        (10, 10, "10 of 10"),
        (5, 6, "5 of 6"),
        (4, 5, None),
        (16, 16, None),
        (0, 3, None),
        (28, 30, "28 of 30"),
    ],
)
def test_a_share_past_its_limit_with_an_interval_that_is_not_is_warned_of(flipped, n, counted):
    """4/5 is 0.8 itself, so not past it; 16/16 has its verdict."""
    said = (
        f"{counted} pairs flip with the order; too few pairs for a verdict: `constitute judge`, on pairs "
        "that people judged, examines this judge"
    )
    assert label_warnings(mixed(flipped, n)) == ([] if counted is None else [said])


def test_each_sign_is_warned_of_by_its_own_count():
    """Mass: 3 of 4 is past 0.5 and Wilson begins at 0.301. Constant: 5 of 5, from 0.566 on."""
    silent = label_warnings(label_card([row(HOLDS[0])], 3, 0))
    assert [text.split(";")[0] for text in silent] == [
        "3 of 4 pairs have no label, or one of less than 0.2 probability"
    ]
    flat = label_warnings(label_card([row(vote(0.5, None, None))] * 5, 0, 0))
    assert [text.split(";")[0] for text in flat] == ["P(A) is 0.50, up to 0.01, in 5 of 5 pairs"]
    assert label_warnings(label_card([row(vote(0.5, None, None))], 0, 0)) == []
    assert label_warnings(label_card([], 0, 0)) == []


NOT_SHOWN = "the labels are not shown to be better than chance: they agree with people in"


@pytest.mark.parametrize(
    ("agree", "n", "begins"),
    [
        (
            4,
            12,
            f"{NOT_SHOWN} 0.333 (0.138 to",
        ),
        (0, 6, "the labels contradict people: they agree in 0.000 (0.000 to 0.390, n = 6) of the pairs"),
        (6, 6, None),
        (
            3,
            3,
            f"{NOT_SHOWN} 1.000 (0.439 to",
        ),
    ],
)
def test_agreement_that_is_no_better_than_chance_is_warned_of(agree, n, begins):
    rows = [row(HOLDS[i % 2], human=float((i % 2 == 0) == (i < agree))) for i in range(n)]
    found = label_warnings(label_card(rows, 0, 0))
    assert [text[: len(begins or "")] for text in found] == ([] if begins is None else [begins])
