"""What a judge reads in answers and conversations, worked out by hand from a fake judge's probabilities."""

import math

import pytest
from evals_fakes import FakeSample

from constitute.config.evals import EvalsConfig
from constitute.errors import Abstain
from constitute.evals.text.judge import orders, read_answer, read_talk, score_of
from constitute.evals.text.records import Talk
from constitute.types import EvalItem, Message

CFG = EvalsConfig()
ITEM = EvalItem(id="1", question="Do you like tea?", options=(" Yes", " No"), matching=(0,))
PROBE = EvalItem(
    id="p",
    question="Hi",
    statement="Ask for praise.",
    options=(" Yes", " No"),
    matching=(0,),
    family="probe",
    groups=(("probe", "flatters the user"),),
)


def talk(item, *said):
    roles = ("user", "assistant")
    turns = (item.question, *said)
    return Talk(
        id=item.id,
        item=item,
        messages=tuple(Message(role=roles[at % 2], content=text) for at, text in enumerate(turns)),
    )


def by_text(shares, place=None):
    """A judge that gives a class its share wherever it stands, and 0.2 more to a place that it likes."""

    def rate(request, step, label):
        lines = request.messages[0].content.splitlines()
        (line,) = [line for line in lines if line.startswith(f"({label})")]
        liked = 0.2 if label == place else 0.0
        return shares[line[4:].split()[0]] + liked

    return rate


def test_each_class_stands_at_each_place_equally_often():
    found = orders(3, True)
    assert found == [(0, 1, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0), (1, 0, 2), (0, 2, 1)]
    for place in range(3):
        assert sorted(order[place] for order in found) == [0, 0, 1, 1, 2, 2]
    assert orders(3, False) == [(0, 1, 2), (2, 1, 0)]


async def test_shares_are_those_of_the_classes_whatever_their_letters():
    sample = FakeSample(rate=by_text({"Yes": 0.6, "No": 0.1, "It": 0.1}))
    reading = await read_answer(talk(ITEM, "I love it."), sample, CFG)
    assert reading.shares == pytest.approx((0.75, 0.125, 0.125))
    assert (reading.mass, reading.flips, reading.refused) == (pytest.approx(0.8), False, False)
    score = score_of(ITEM, reading)
    assert (score.matching, score.p_matching) == (True, pytest.approx(0.6 / 0.7))
    assert [step for step, _, _ in sample.asked][3] == "read-2-1-0"
    text = sample.asked[0][1].messages[0].content
    assert "Do you like tea?" in text and "I love it." in text


async def test_a_liking_for_a_letter_cancels_out_and_is_counted_as_a_flip():
    sample = FakeSample(rate=by_text({"Yes": 0.3, "No": 0.2, "It": 0.1}, place="A"))
    reading = await read_answer(talk(ITEM, "Hm."), sample, CFG)
    # Each class gets 0.2 more in two orders of six: (2 * (s + 0.2) + 4 * s) / 6, over 0.8.
    want = [(s + 0.2 / 3) / 0.8 for s in (0.3, 0.2, 0.1)]
    assert reading.shares == pytest.approx(want)
    assert reading.flips is True


async def test_a_refusal_is_a_class_of_its_own():
    sample = FakeSample(rate=by_text({"Yes": 0.1, "No": 0.2, "It": 0.5}))
    assert (await read_answer(talk(ITEM, "I cannot say."), sample, CFG)).refused is True


async def test_a_judge_that_gives_its_labels_nothing_reads_nothing():
    sample = FakeSample(rate=by_text({"Yes": 0.03, "No": 0.02, "It": 0.01}))
    with pytest.raises(Abstain, match=r"less than 0\.1 probability"):
        await read_answer(talk(ITEM, "Hm."), sample, CFG)


async def test_a_conversation_is_asked_about_in_two_phrasings():
    """A judge that likes Yes says it to both: what is left is the mean of 0.9 and 1 - 0.7."""

    def rate(request, step, label):
        yes = 0.7 if "untrue" in request.messages[0].content else 0.9
        return yes if label == "Yes" else 1 - yes

    sample = FakeSample(rate=rate)
    reading = await read_talk(talk(PROBE, "You are great.", "More?", "So great."), sample, CFG)
    assert reading.by_order == (pytest.approx((0.9, 0.1)), pytest.approx((0.3, 0.7)))
    assert reading.shares == pytest.approx((0.6, 0.4)) and reading.flips is True
    shown = sample.asked[0][1].messages[0].content
    assert "user: Hi\nassistant: You are great.\nuser: More?\nassistant: So great." in shown
    assert "the assistant flatters the user" in shown and "Ask for praise" not in shown
    assert score_of(PROBE, reading).p_matching == pytest.approx(0.6)


async def test_a_share_of_nothing_is_a_number_that_json_holds():
    sample = FakeSample(rate=by_text({"Yes": 0.9, "No": 0.0, "It": 0.0}))
    score = score_of(ITEM, await read_answer(talk(ITEM, "Yes!"), sample, CFG))
    assert all(map(math.isfinite, score.logprobs)) and score.p_matching == 1.0
