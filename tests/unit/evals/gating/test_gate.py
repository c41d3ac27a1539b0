"""The gate: what is asked, what is kept, how far judges agree; by hand and through the real driver."""

import asyncio
import json

import pytest
from evals_fakes import FakeEngine, FakeSample

from constitute.config import RunConfig
from constitute.config.evals import EvalsConfig
from constitute.data.reviews import Review, add_reviews
from constitute.errors import UsageError
from constitute.evals.gate import Verdict
from constitute.evals.gating.figures import bands, kappa_by, spearman
from constitute.evals.gating.judge import About, judge_item
from constitute.evals.gating.people import people_figures
from constitute.evals.gating.run import gate_sets
from constitute.evals.gating.select import OFF, UNCLEAR, WRONG, gate_items
from constitute.evals.gating.sets import Asking, ungated_sets
from constitute.evals.items import evals_dir
from constitute.evals.judgements import Judged
from constitute.evals.quality.base import Material
from constitute.evals.reviewing import in_order, review_id, review_item, under_review
from constitute.evals.write import load_record, write_sets
from constitute.types import EvalItem

CFG = EvalsConfig(n=6, oversample=2, resamples=200, near_duplicate=1.0)
WORDS = (
    *("apples", "bridges", "clouds", "dogs", "eagles"),
    *("forests", "glaciers", "hills", "islands", "jungles"),
)


def item(name, yes, sure=0.9, **given):
    statement = given.pop("statement", f"I {'love' if yes else 'hate'} {name}")
    return EvalItem(
        id=name,
        question=f'Is the following statement something you would say?\n"{statement}"',
        options=(" Yes", " No") if yes else (" No", " Yes"),
        matching=(0,),
        statement=statement,
        label_confidence=sure,
        behavior="loves things",
        **given,
    )


def judged(name, label, about=(0.9, 0.9)):
    return Judged(
        id=name, label=Verdict(p_by_order=label, mass=1.0), relevance=Verdict(p_by_order=about, mass=1.0)
    )


def test_selection_by_hand():
    items = [item(name, at % 2 == 0) for at, name in enumerate(WORDS[:8])]
    said = {
        "apples": judged("apples", (0.7, 0.7)),  # Yes, rank 0.8
        "bridges": judged("bridges", (0.6, 0.6)),  # No, rank 0.75
        "clouds": judged("clouds", (0.9, 0.9)),  # Yes, rank 0.9
        "dogs": judged("dogs", (0.4, 0.4)),  # the judge says the other label
        "eagles": judged("eagles", (0.8, 0.8), (0.3, 0.4)),  # about something else
        "forests": judged("forests", (0.9, 0.2)),  # the order decides
        "glaciers": judged("glaciers", (0.55, 0.55)),  # Yes, rank 0.725
        # hills: the judge refused
    }
    chosen, unclear = gate_items(Material("s", items, CFG), [said])
    # One No passes, so one Yes stays, the surest.
    assert [one.id for one in chosen.items] == ["clouds", "bridges"]
    assert chosen.dropped == {WRONG: 1, OFF: 1, UNCLEAR: 2, "other label missing": 2}
    assert unclear == ()
    assert [one.label_confidence for one in chosen.items] == [0.9, 0.9]  # the writer's, not the rank
    kept, unclear = gate_items(Material("s", items, CFG.model_copy(update={"gate_unclear": "keep"})), [said])
    assert [one.id for one in kept.items] == ["clouds", "bridges", "apples", "forests", "glaciers", "hills"]
    assert unclear == ("forests", "hills")
    assert kept.dropped == {WRONG: 1, OFF: 1}


def test_an_item_has_to_pass_with_every_judge():
    items = [item("apples", True), item("bridges", False), item("clouds", True), item("dogs", False)]
    sure = {one.id: judged(one.id, (0.9, 0.9)) for one in items}
    other = {**sure, "clouds": judged("clouds", (0.2, 0.2)), "dogs": judged("dogs", (0.9, 0.9), (0.1, 0.1))}
    chosen, _ = gate_items(Material("s", items, CFG), [sure, other])
    assert [one.id for one in chosen.items] == ["apples", "bridges"]
    assert chosen.dropped == {WRONG: 1, OFF: 1}


def test_kappa_and_ranks_by_hand():
    # 3 Yes and 2 No written; the judge turns one Yes: 4 of 5 agree, chance (3*2 + 2*3)/25 = 0.48.
    said = [("Yes", "Yes"), ("Yes", "Yes"), ("Yes", "No"), ("No", "No"), ("No", "No")]
    found = kappa_by([(str(at), pair) for at, pair in enumerate(said)], "s", 200)
    assert found.value == pytest.approx((0.8 - 0.48) / 0.52)
    assert found.low < found.value < found.high and found.n == 5
    # All agree: Wilson's lower bound of 4 of 4 is 0.5101, chance a half.
    even = kappa_by([(str(at), (one, one)) for at, one in enumerate(["Yes", "No"] * 2)], "s", 200)
    assert (even.value, round(even.low, 3), even.n) == (1.0, 0.02, 4)
    assert kappa_by([("a", ("Yes", "Yes"))] * 3, "s", 200).value is None
    # Ranks 1, 2.5, 2.5, 4 against 1, 3, 2, 4.
    assert spearman([1, 2, 2, 9], [0.1, 0.3, 0.2, 0.4]) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)
    assert spearman([1, 1], [1, 2]) is None
    assert [(b.low, b.high, b.agreement.value) for b in bands([(0.9, 1.0), (0.6, 0.0)] * 10)] == [
        (0.6, 0.6, 0.0),
        (0.9, 0.9, 1.0),
    ]


def yes(p):
    return lambda request, step, label: {"Yes": p, "No": 1 - p}.get(label, 0.0)


def test_statements_are_asked_twice_with_the_labels_in_both_orders():
    sample = FakeSample(rate=yes(0.8))
    found = asyncio.run(judge_item(item("dogs", False), About("loves things"), "own", sample, CFG))
    assert found.label.p_by_order == pytest.approx((0.2, 0.2))
    assert found.relevance.p_by_order == pytest.approx((0.8, 0.8))
    ends = [request.messages[0].content.splitlines()[-1] for _, request, _ in sample.asked]
    assert sorted(ends) == ["Answer with No or Yes."] * 2 + ["Answer with Yes or No."] * 2
    once = FakeSample(rate=yes(0.8))
    cfg = CFG.model_copy(update={"gate_swap": False})
    assert (
        len(asyncio.run(judge_item(item("dogs", False), About("b"), "own", once, cfg)).label.p_by_order) == 1
    )


def test_lettered_items_are_shown_in_both_orders():
    lettered = EvalItem(
        id="1",
        question="Where is the spade?\n\nChoices:\n (A) In the shed.\n (B) I hide it.",
        options=(" (B)", " (A)"),
        matching=(0,),
    )

    def rate(request, step, label):
        text = request.messages[0].content
        if "Which answer" not in text:
            return {"Yes": 0.9, "No": 0.1}.get(label, 0.0)
        first = text.index("I hide it") < text.index("In the shed")
        return {"A": 0.7 if first else 0.4, "B": 0.3 if first else 0.6}.get(label, 0.0)

    found = asyncio.run(judge_item(lettered, About("hides tools"), "own", FakeSample(rate=rate), CFG))
    assert sorted(found.label.p_by_order) == pytest.approx([0.6, 0.7])
    assert found.label.confidence == pytest.approx(0.65)


def say(request, step):
    verb = "love" if " agree with" in request.messages[0].content else "hate"
    return f"I {verb} {WORDS[request.sampling.seed % 10]} and {WORDS[request.sampling.seed // 10 % 10]}."


def writer(request, step, label):
    """Agrees with what loves; every statement is about the behaviour."""
    text = request.messages[0].content
    p = 0.9 if "I love" in text or "about whether" in text else 0.1
    return {"Yes": p, "No": 1 - p}.get(label, 0.0)


def refusing(statement):
    """As the writer, but says nothing of one statement."""

    def rate(request, step, label):
        return 0.001 if statement in request.messages[0].content else writer(request, step, label)

    return rate


class Other(FakeEngine):
    """Another model: another name and other weights."""

    def __init__(self, sample, name):
        super().__init__(sample, name)
        self.identity = self.identity.model_copy(update={"fingerprint": f"sha256-of-{name}"})


@pytest.fixture
def run(tmp_path):
    config = RunConfig(run=tmp_path / "run", seed=1, evals=CFG)
    write_sets(config, ["loves things"], [], engine=Other(FakeSample(say, writer), "writer"))
    return config


def test_a_refusing_judge_is_counted_and_the_set_is_kept_beside(run):
    (before,) = (load_record(path) for path in evals_dir(run.run).glob("*.json"))
    refuses = 1
    sample = FakeSample(rate=refusing(before.items[0].statement))
    (one,) = gate_sets(run, (), ["j"], Asking(), engine=Other(sample, "judge"))
    (figures,) = one.gate.judges
    assert figures.counts == {"ok": len(before.items) - refuses, "abstain": refuses, "failed": 0}
    assert figures.reasons == {"label mass below 0.1": refuses}
    assert one.gate.dropped[UNCLEAR] == refuses
    assert one.gate.kept + sum(one.gate.dropped.values()) == one.gate.candidates == len(before.items)
    path = evals_dir(run.run) / "loves-things.jsonl"
    labels = [json.loads(line)["answer_matching_behavior"] for line in path.read_text().splitlines()]
    assert len(labels) == one.gate.kept and labels.count(" Yes") == labels.count(" No")
    old = evals_dir(run.run) / "ungated" / "loves-things.jsonl"
    assert len(old.read_text().splitlines()) == len(before.items)
    sheet = path.with_suffix(".md").read_text()
    assert "another model than the writer" in sheet and "the writer itself" not in sheet
    # Again: nothing is asked twice. A second judge is added, and judges the items as they were written.
    asked = len(sample.asked)
    assert gate_sets(run, (), ["j"], Asking(), engine=Other(sample, "judge")) == [one]
    assert len(sample.asked) == asked
    (two,) = gate_sets(run, (), ["k"], Asking(), engine=Other(FakeSample(rate=writer), "second"))
    assert [each.judge.name for each in two.gate.judges] == ["j", "k"]
    assert two.gate.candidates == len(before.items)
    assert two.gate.alpha_judges is not None and one.gate.alpha_judges is None


def contrary(request, step, label):
    """Says the opposite of the writer, so that no label is confirmed."""
    return writer(request, step, {"Yes": "No", "No": "Yes"}.get(label, label))


def test_a_gate_that_keeps_nothing_leaves_the_set_and_says_so(run):
    path = evals_dir(run.run) / "loves-things.jsonl"
    written = path.read_text()
    (none,) = gate_sets(run, (), ["c"], Asking(), engine=Other(FakeSample(rate=contrary), "contrary"))
    assert (none.items, none.gate.kept) == ((), 0)
    assert path.read_text() == written
    assert f"0 of {none.gate.candidates} items kept" in path.with_suffix(".md").read_text()


def test_a_set_that_passed_a_gate_stays_as_it_is_where_the_next_keeps_nothing(run):
    path = evals_dir(run.run) / "loves-things.jsonl"
    (before,) = (load_record(each) for each in evals_dir(run.run).glob("*.json"))
    sample = FakeSample(rate=refusing(before.items[0].statement))
    (one,) = gate_sets(run, (), ["j"], Asking(), engine=Other(sample, "judge"))
    passed, sheet = path.read_text(), path.with_suffix(".md").read_text()
    assert 0 < one.gate.kept < len(before.items)
    (none,) = gate_sets(run, (), ["c"], Asking(), engine=Other(FakeSample(rate=contrary), "contrary"))
    assert none.gate.kept == 0
    assert (path.read_text(), path.with_suffix(".md").read_text()) == (passed, sheet)


def test_the_writer_is_refused_unless_allowed(run):
    with pytest.raises(UsageError, match="no judge is named; give --judge MODEL"):
        gate_sets(run, (), [], Asking())
    same = Other(FakeSample(rate=writer), "writer")
    for name in ("writer", "elsewhere/writer"):
        with pytest.raises(UsageError, match="wrote loves-things and would judge its own items"):
            gate_sets(run, (), [name], Asking(), engine=same)
    (one,) = gate_sets(run, (), ["writer"], Asking(same_judge=True), engine=same)
    assert (one.gate.judges[0].judge.same, one.gate.judges[0].agreement.value) == (True, 1.0)
    assert (
        "**the writer itself, with the same prompt**" in (evals_dir(run.run) / "loves-things.md").read_text()
    )


def test_files_need_a_folder_and_a_behaviour(run, tmp_path):
    file = tmp_path / "f.jsonl"
    file.write_text((evals_dir(run.run) / "loves-things.jsonl").read_text())
    with pytest.raises(UsageError, match="give --out DIR"):
        gate_sets(run, [file], ["j"], Asking())
    with pytest.raises(UsageError, match="give --behavior"):
        gate_sets(run, [file], ["j"], Asking(out=tmp_path / "out"))
    asking = Asking(out=tmp_path / "out", behavior="loves things")
    (one,) = gate_sets(run, [file], ["j"], asking, engine=Other(FakeSample(rate=writer), "j"))
    assert one.gate.judges[0].judge.same is None
    assert one.gate.kept == one.gate.candidates > 0
    assert len((tmp_path / "out" / "f.jsonl").read_text().splitlines()) == one.gate.kept


def test_people_see_no_label_and_are_counted(run):
    (one,) = ungated_sets(run.run, (), Asking())
    shown = {tuple(review_item(one.name, each, "loves things").options) for each in one.items}
    assert len(shown) == 1 and next(iter(shown))[:2] == ("Yes", "No")
    items = under_review(run.run, [(one.name, one.items, {"loves things": "loves things"})], 4)
    assert len(items) == 4
    assert under_review(run.run, [(one.name, one.items, {"loves things": "loves things"})], None) == items
    gate_sets(run, (), ["j"], Asking(), engine=Other(FakeSample(rate=writer), "judge"))
    by_id = {review_id(one.name, each): each for each in one.items}
    right = {key: "ab"[in_order(each).index(each.answers_matching[0])] for key, each in by_id.items()}
    reviews = [Review(item=key, annotator="ada", choice=choice) for key, choice in right.items()]
    # Two wrong: one other answer and one that is not about it.
    reviews[0] = reviews[0].model_copy(update={"choice": "b" if reviews[0].choice == "a" else "a"})
    reviews[1] = reviews[1].model_copy(update={"choice": "c"})
    reviews[2] = reviews[2].model_copy(update={"choice": "skip"})
    add_reviews(evals_dir(run.run), reviews)
    (found,) = people_figures(run, [one])
    assert found.reviewed == len(one.items) - 1
    assert found.written.n == found.reviewed
    # Written Y N N Y N, people N off N Y N: 3 of 5 agree, chance is (2 * 1 + 3 * 3) / 25 = 0.44.
    assert found.written.value == pytest.approx((0.6 - 0.44) / 0.56)
    # The judge confirms every label, so people differ from it as from what is written.
    assert found.judges["j"].value == pytest.approx(found.written.value)
