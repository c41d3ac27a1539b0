"""Each method by hand: what it asks, its P(A), and what it needs of a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from scripted import ScriptedEngine, constitution, prompt

from constitute.config import LabelConfig, load_config
from constitute.constitution.write import to_yaml
from constitute.errors import Abstain, UsageError
from constitute.pipeline import run_stages
from constitute.stages.labels import LABEL_METHODS, label_method
from constitute.stages.labels.apart import greater
from constitute.stages.labels.rating import RATINGS
from constitute.stages.labels.stage import label
from constitute.types import (
    Ability,
    Choice,
    Comparison,
    Completion,
    LabelledPair,
    Principle,
    PrincipleVote,
    Request,
)

PAIR = Comparison(id="p/0-1", prompt=prompt("p", "Hello?"), a="Hi.", b="Go away.")


class Judge:
    """Scores options by `rate(text of the question)`; says `answers` in turn by their index."""

    def __init__(
        self,
        rate: Callable[[str], Mapping[str, float]] = lambda text: {},
        answers: Callable[[str, int], str] = lambda text, index: "",
        censored: tuple[str, ...] = (),
    ) -> None:
        self.rate, self.answers, self.censored = rate, answers, censored
        self.asked: list[tuple[str, int]] = []

    async def generate(
        self, request: Request, *, step: str, index: int = 0, principle: Principle | None = None
    ) -> Completion:
        assert request.sampling.temperature == 1.0
        self.asked.append((step, index))
        return Completion(text=self.answers(request.messages[-1].content, index))

    async def choose(
        self,
        request: Request,
        labels: Sequence[str],
        *,
        step: str,
        principle: Principle | None = None,
        spelled: bool = False,
    ) -> Choice:
        assert spelled, "options that the question shows"
        self.asked.append((step, 0))
        shares = self.rate(request.messages[-1].content)
        logprobs = tuple(math.log(shares[each]) if shares.get(each) else -math.inf for each in labels)
        return Choice(labels=tuple(labels), logprobs=logprobs, censored=self.censored)

    async def score(self, *args: object, **named: object) -> None:
        raise AssertionError("nothing is scored")


async def vote(judge: Judge, **settings: object) -> PrincipleVote:
    cfg = LabelConfig.model_validate(settings)
    row = await label(PAIR, judge, cfg, constitution("kind"))  # type: ignore[arg-type]
    return row.label.votes[0]


def test_greater_by_hand() -> None:
    # A is 1, 2 or 3 with 0.2, 0.3, 0.5, B with 0.5, 0.5, 0: wins 0.3*0.5 + 0.5*1 = 0.65, ties 0.1 + 0.15.
    assert greater((0.2, 0.3, 0.5), (0.5, 0.5, 0.0)) == pytest.approx(0.65 + 0.25 / 2)
    assert greater((0.5, 0.5, 0.0), (0.2, 0.3, 0.5)) == pytest.approx(1 - 0.775)
    assert greater((0.0, 1.0), (1.0, 0.0)) == 1.0 and greater((0.3, 0.7), (0.3, 0.7)) == pytest.approx(0.5)


async def test_rating_asks_once_an_answer_and_shows_no_order() -> None:
    judge = Judge(lambda text: {"7": 0.3, "9": 0.6} if "Reply: Hi." in text else {"7": 0.4, "2": 0.4})
    found = await vote(judge, method="rating")
    # A: 7 with 1/3, 9 with 2/3; B: 2 and 7 with 1/2. Wins 2/3 + 1/3 * 1/2, ties 1/3 * 1/2.
    assert found.p_ab == pytest.approx(2 / 3 + 1 / 6 + 1 / 12)
    assert (found.p_ba, found.mass_ba, found.flips) == (None, None, None)
    assert found.mass_ab == pytest.approx(0.8) and judge.asked == [("rate", 0), ("rate", 0)]


async def test_yes_no_is_half_the_difference() -> None:
    judge = Judge(lambda text: {"Yes": 0.72, "No": 0.08} if "Reply: Hi." in text else {"Yes": 0.2, "No": 0.6})
    found = await vote(judge, method="yes_no")
    assert found.p_ab == pytest.approx(0.5 + (0.9 - 0.25) / 2) and found.p_ba is None


async def test_a_confident_judge_with_a_bound_votes_and_is_marked() -> None:
    def rate(text: str) -> Mapping[str, float]:
        return {"A": 0.999, "B": 1e-4} if "(A) Hi." in text else {"A": 1e-4, "B": 0.999}

    judge = Judge(rate, censored=("B",))
    judge.rate = lambda text: {"A": 0.999, "B": 1e-4}
    found = await vote(judge)
    assert found.censored and found.p_ab == pytest.approx(0.999 / 0.9991)
    assert found.p_ba == pytest.approx(1e-4 / 0.9991)


async def test_sampled_votes_count_both_orders() -> None:
    def answers(text: str, index: int) -> str:
        first = "A" if index < 6 else "B" if index < 7 else "It depends."
        return first if "(A) Hi." in text else {"A": "(B)", "B": "(A)"}.get(first, first)

    judge = Judge(answers=answers)
    found = await vote(judge, votes="sampled")
    assert (found.p_ab, found.p_ba) == (pytest.approx(6 / 7), pytest.approx(6 / 7))
    assert (found.mass_ab, found.mass_ba, found.samples) == (7 / 8, 7 / 8, 8)
    steps = [(f"compare-{order}-sampled", index) for order in ("ab", "ba") for index in range(8)]
    assert sorted(judge.asked) == sorted(steps)


async def test_sampled_ratings_and_answers_without_an_option() -> None:
    judge = Judge(answers=lambda text, index: "8/10" if "Reply: Hi." in text else str(7 + 2 * (index % 2)))
    found = await vote(judge, votes="sampled", method="rating", samples=4)
    assert (found.p_ab, found.samples, len(judge.asked)) == (0.5, 4, 8)
    with pytest.raises(Abstain, match=r"P\(A\) \+ P\(B\) = 0 of 8 answers is below 0.1 under kind, order AB"):
        await vote(Judge(answers=lambda text, index: "I think A"), votes="sampled")


@pytest.fixture
def settings(tmp_path: Path) -> list[str]:
    file = tmp_path / "c.yaml"
    file.write_text(to_yaml(constitution("kind")), encoding="utf-8")
    return [f"constitution={file}", f"run={tmp_path / 'run'}"]


@pytest.mark.parametrize("method", [name for name in LABEL_METHODS if name != "construction"])
def test_a_model_without_log_probabilities_is_refused_before_the_run(
    method: str, settings: list[str]
) -> None:
    needed: Ability = label_method(method).needs[0]
    engine = ScriptedEngine()
    engine.lacks = {needed: "it gives no such thing; serve it with vLLM"}
    config = load_config(None, [*settings, f"label.method={method}"])
    with pytest.raises(UsageError, match="label cannot run with scripted: it gives no such thing; serve it"):
        run_stages(config, ["label"], pairs=[PAIR], engine=engine)
    assert not engine.asked


def test_sampled_votes_need_nothing_of_a_model(settings: list[str]) -> None:
    engine = ScriptedEngine()
    engine.lacks = {"choose": "it gives no log-probabilities", "score": "nor of texts"}
    config = load_config(None, [*settings, "label.votes=sampled", "label.samples=3"])
    counts = run_stages(config, ["label"], pairs=[PAIR], engine=engine)["label"]
    # The scripted engine answers with words, which are no letters: all asked, all counted, no label.
    assert (counts.asked, counts.abstain) == (6, 1)


def test_a_method_that_cannot_count_answers_says_so(
    settings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from constitute.stages.labels.base import LabelMethod

    async def never(*args: object) -> PrincipleVote:
        raise AssertionError("refused before")

    monkeypatch.setitem(LABEL_METHODS, "never", LabelMethod(vote=never))
    config = load_config(None, [*settings, "label.method=never", "label.votes=sampled"])
    with pytest.raises(UsageError, match="never takes no sampled votes"):
        run_stages(config, ["label"], pairs=[PAIR], engine=ScriptedEngine())


def test_an_answer_in_two_pairs_is_rated_once(settings: list[str]) -> None:
    engine = ScriptedRater()
    pairs = [PAIR, PAIR.model_copy(update={"id": "q", "b": "Come in."})]
    config = load_config(None, [*settings, "label.method=rating"])
    counts = run_stages(config, ["label"], pairs=pairs, engine=engine)["label"]
    assert (counts.ok, counts.asked) == (2, 3)


class ScriptedRater(ScriptedEngine):
    async def choose(self, request: Request, labels: Sequence[str], *, spelled: bool = False) -> Choice:
        return Choice(labels=RATINGS, logprobs=(math.log(0.1),) * 10)


def test_a_stored_choice_vote_is_not_a_rating(settings: list[str]) -> None:
    """Reuse of a run's votes is by method: a diff under another asks anew."""
    from constitute.constitution.read import load_constitution
    from constitute.editing.votes import read_stored

    config = load_config(None, settings)
    run_stages(config, ["label"], pairs=[PAIR], engine=ScriptedEngine())
    side = load_constitution(config.constitution, ())
    assert len(read_stored(config, (side, side), None, {}).votes) == 1
    for change in ({"method": "rating"}, {"votes": "sampled"}):
        other = config.model_copy(update={"label": config.label.model_copy(update=change)})
        assert read_stored(other, (side, side), None, {}).votes == {}


def test_rows_of_before_can_be_read() -> None:
    old = {"principle_id": "kind", "weight": 1.0, "p_ab": 0.7, "p_ba": 0.6, "mass_ab": 0.9, "mass_ba": 0.9}
    row = {"id": "p", "comparison": PAIR.model_dump(), "label": {"p_a": 0.65, "votes": [old]}}
    assert LabelledPair.model_validate(row).label.votes[0].samples == 0
