"""label.pairs: which answers each scheme compares, worked by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from scripted import principle, prompt

from constitute.config import LabelConfig
from constitute.constitution.draw import draw
from constitute.errors import Abstain, RowError, UsageError
from constitute.stages.contrast import asked_to, contrast_of
from constitute.stages.labels.construction import construction
from constitute.stages.labels.pairs import (
    Candidates,
    candidates_of,
    every_two,
    pair_of_samples,
    pair_sources,
    pairs_of,
    pairs_of_revisions,
    pairs_of_runs,
    together_of,
)
from constitute.stages.labels.rank import best_and_worst, ranking
from constitute.types import (
    Choice,
    Comparison,
    Completion,
    Constitution,
    Contrast,
    CritiqueRevision,
    Message,
    Principle,
    Request,
    Response,
    Score,
)

WORDS = ("one", "two", "three", "four")
ROWS = tuple(
    Response(id=f"p/{at}", prompt=prompt("p"), sample=at, response=word) for at, word in enumerate(WORDS)
)
UNDER = Constitution(name="c", principles=(principle("kind", 3.0), principle("brief", 1.0)))


class Rater:
    """Gives nine tenths of a rating's mass to what `ratings` says of (principle, answer)."""

    def __init__(self, ratings: dict[str, tuple[int, ...]]) -> None:
        self.ratings = ratings
        self.asked: list[tuple[str, str]] = []

    async def generate(
        self, request: Request, *, step: str, index: int = 0, principle: Principle | None = None
    ) -> Completion:
        raise AssertionError("a rating is never read from text")

    async def score(
        self, request: Request, text: str, *, step: str, principle: Principle | None = None
    ) -> Score:
        raise AssertionError("a rating is no likelihood")

    async def choose(
        self,
        request: Request,
        labels: Sequence[str],
        *,
        step: str,
        principle: Principle | None = None,
        spelled: bool = False,
    ) -> Choice:
        assert principle is not None and step == "rate"
        [at] = [n for n, word in enumerate(WORDS) if word in request.messages[0].content.split()]
        self.asked.append((principle.id, WORDS[at]))
        rated = self.ratings[principle.id][at]
        logprobs = tuple(math.log(0.9 if label == str(rated) else 1e-9) for label in labels)
        return Choice(labels=tuple(labels), logprobs=logprobs)


def test_which_samples_make_groups() -> None:
    assert [pairs_of(n) for n in (1, 2, 5)] == [[], [(0, 1)], [(0, 1), (2, 3)]]
    assert every_two(4) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert [len(every_two(n)) for n in (1, 2, 3, 8)] == [0, 1, 3, 28]
    assert (together_of(1), together_of(3)) == ([], [(0, 1, 2)])


def test_a_pair_is_the_same_whatever_other_samples_there_are() -> None:
    """Groups of fewer samples are among those of more, so a failed last sample takes no other pair away."""
    for name in ("samples", "revision", "both", "all", "revisions", "models", "contrast"):
        for source in pair_sources(name):
            for n in range(1, 9):
                assert set(source.groups(n)) <= set(source.groups(n + 1))


def test_revisions_are_compared_with_one_another_and_with_the_response() -> None:
    steps = tuple(CritiqueRevision(principle_id="kind", critique="c", revision=text) for text in "xyz")
    found = pairs_of_revisions(ROWS[0].model_copy(update={"steps": steps}))
    assert [(pair.id, pair.a, pair.b) for pair in found] == [
        ("p/0-rev0-1", "one", "x"),
        ("p/0-rev0-2", "one", "y"),
        # The id of response against last revision is the same as under label.pairs=revision.
        ("p/0-rev", "one", "z"),
        ("p/0-rev1-2", "x", "y"),
        ("p/0-rev1-3", "x", "z"),
        ("p/0-rev2-3", "y", "z"),
    ]
    assert (found[0].a_source, found[0].b_source) == ("response", "revision 1")
    assert (found[5].a_source, found[5].b_source) == ("revision 2", "revision 3")


def test_two_runs_are_paired_sample_by_sample_and_each_side_names_its_model() -> None:
    theirs = ROWS[1].model_copy(update={"response": "hello"})
    [pair] = pairs_of_runs(ROWS[1], (theirs, "small", "large"))
    assert (pair.id, pair.a, pair.b) == ("p/1-against", "two", "hello")
    assert (pair.a_source, pair.b_source) == (
        "response 1 by small",
        "response 1 by large, label.against",
    )
    assert pairs_of_runs(ROWS[1], None) == []


async def test_the_best_and_the_worst_by_the_weighted_mean_of_ratings() -> None:
    [row] = candidates_of(ROWS)
    # Weighted by 3 to 1: (24 + 2) / 4 = 6.5, (18 + 10) / 4 = 7, (6 + 9) / 4 = 3.75, (9 + 3) / 4 = 3.
    rater = Rater({"kind": (8, 6, 2, 3), "brief": (2, 10, 9, 3)})
    pair = await best_and_worst(row, rater, LabelConfig(principles="all"), UNDER)
    assert (pair.id, pair.a, pair.b) == ("p/best-worst", "two", "four")
    assert (pair.a_source, pair.b_source) == ("response 1", "response 3")
    assert len(rater.asked) == len(set(rater.asked)) == 4 * 2


async def test_of_equal_worth_the_earlier_is_best_and_the_later_worst() -> None:
    [row] = candidates_of(ROWS)
    rater = Rater({"kind": (5, 5, 5, 5), "brief": (1, 1, 1, 1)})
    pair = await best_and_worst(row, rater, LabelConfig(principles="all"), UNDER)
    assert (pair.a, pair.b) == ("one", "four")
    rater = Rater({"kind": (5, 9, 9, 5), "brief": (1, 1, 1, 1)})
    pair = await best_and_worst(row, rater, LabelConfig(principles="all"), UNDER)
    assert (pair.a, pair.b) == ("two", "four")


def test_one_sample_has_no_best_and_worst_and_a_prompt_is_one_row() -> None:
    assert candidates_of(ROWS[:1]) == []
    [row] = candidates_of(ROWS[1:3])
    assert isinstance(row, Candidates) and [each.sample for each in row.responses] == [1, 2]


def test_a_method_that_judges_no_answer_by_itself_cannot_rank() -> None:
    with pytest.raises(UsageError, match=r"set label\.rank to one of rating, yes_no, likelihood"):
        ranking("choice")


def contrasted(prompt_id: str) -> list[Contrast]:
    return [contrast_of(prompt_id, index, UNDER) for index in range(4)]


def test_contrast_follows_and_opposes_the_principle_that_the_pair_is_labelled_under() -> None:
    followed = 0
    for at in range(200):
        first, second, third, fourth = contrasted(f"p{at}")
        for pair_id, a, b in ((f"p{at}/0-1", first, second), (f"p{at}/2-3", third, fourth)):
            assert a.principle_id == b.principle_id == draw(UNDER, pair_id, 0).id
            assert a.follows != b.follows
            followed += a.follows
    # 400 fair coins: 200 +- 3.9 standard deviations of 10.
    assert 161 < followed < 239


def test_the_pair_of_a_contrast_says_what_each_side_was_asked_to_do() -> None:
    a, b = (
        ROWS[at].model_copy(update={"contrast": Contrast(principle_id="kind", follows=at == 1)})
        for at in (0, 1)
    )
    pair = pair_of_samples(a, b)
    assert pair.contrast == Contrast(principle_id="kind", follows=False)
    assert (pair.a_source, pair.b_source) == ("response 0, against kind", "response 1, for kind")
    assert pair.swap().contrast == Contrast(principle_id="kind", follows=True)
    assert pair.swap().swap() == pair
    assert pair_of_samples(a, ROWS[1]).contrast is None


def test_rows_without_a_contrast_are_stored_as_they_were() -> None:
    pair = pair_of_samples(*ROWS[:2])
    assert "contrast" not in pair.model_dump() and "contrast" not in ROWS[0].model_dump()
    assert Comparison.model_validate(pair.model_dump()) == pair


async def test_the_label_by_construction_is_how_the_pair_was_made() -> None:
    kind, brief = UNDER.principles
    made = Contrast(principle_id="kind", follows=False)
    pair = pair_of_samples(*ROWS[:2]).model_copy(update={"contrast": made})
    rater, cfg = Rater({}), LabelConfig(method="construction")
    assert (await construction(pair, kind, 1.0, rater, cfg)).p_a == 0.0
    assert (await construction(pair.swap(), kind, 1.0, rater, cfg)).p_a == 1.0
    with pytest.raises(Abstain, match="made under kind, not under brief"):
        await construction(pair, brief, 1.0, rater, cfg)
    with pytest.raises(RowError, match="not made by the stage contrast"):
        await construction(pair_of_samples(*ROWS[:2]), kind, 1.0, rater, cfg)


def test_the_opposite_is_the_principle_s_own_or_its_text_turned_round() -> None:
    asked = (Message(role="user", content="Hi?"),)
    kind = principle("kind")

    def told(principle: Principle, follows: bool) -> str:
        system, user = asked_to(asked, principle, follows)
        assert (system.role, user) == ("system", asked[0])
        return system.content

    assert told(kind, True) == "Follow this principle in your answer: Be kind."
    assert told(kind, False) == "Do the opposite of this principle in your answer: Be kind."
    own = kind.model_copy(update={"opposite": "Be as cold as you can."})
    assert told(own, True) == "Follow this principle in your answer: Be kind."
    assert told(own, False) == "Follow this principle in your answer: Be as cold as you can."
