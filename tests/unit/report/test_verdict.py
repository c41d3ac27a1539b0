"""What the report concludes: a sentence of the right kind from each figure, none where there is no news."""

import dataclasses
import json

import evals_fakes
import pytest
from report_runs import figure, make_run

from constitute.config.evals import EvalsConfig
from constitute.evals.families.base import ItemScore
from constitute.evals.kinds import kind_changes
from constitute.evals.run import SetResult, save_result
from constitute.pipeline import Counts
from constitute.report.build import build, write_report
from constitute.report.names import figure_title, metric_title, stage_titles, training_title
from constitute.report.policies import Policies, eval_shift, policies_of, shift_of
from constitute.report.read import Training, read_run
from constitute.report.show import show_figure, show_interval, show_reach, show_shift
from constitute.report.training import trained
from constitute.report.verdict import conclusions
from constitute.report.view import StageRows
from constitute.stats import Estimate, share_of
from constitute.store import Store
from constitute.store.unfinished import Unfinished


@pytest.fixture
def bare(tmp_path):
    """A report of nothing, to be given the one part that a test is about."""
    Store.open(tmp_path / "run").close()
    with Store.open(tmp_path / "run", readonly=True) as store:
        return build(store, read_run(tmp_path / "run"))


def said(report, **parts):
    return [(one.kind, one.sentence) for one in conclusions(dataclasses.replace(report, **parts))]


def shares(**policies):
    found = {
        policy: {axis: share_of(count, 100).model_dump() for axis, count in axes.items()}
        for policy, axes in policies.items()
    }
    return policies_of({"policies": found})


def test_nothing_is_concluded_from_nothing(bare, tmp_path):
    assert said(bare) == []
    assert "Nothing to conclude yet" in write_report(tmp_path / "run").read_text()


def test_policies_by_hand(bare):
    base = {"harmful": 90, "helpful": 95, "rude": 30, "blue": 10}
    sft = {"harmful": 10, "helpful": 80, "rude": 5, "blue": 50}
    ppo = {"harmful": 12, "helpful": 80, "rude": 33, "blue": 50}
    found = said(bare, policies=shares(base=base, sft=sft, ppo=ppo))
    # Wilson's intervals are 82.6 to 94.5 of 90 and 7.0 to 19.8 of 12 in 100, so the difference reaches down
    # by the root of 5.0² + 4.5² and up by that of 7.8² + 7.4²; the others in the same way.
    assert [f"{kind}: {sentence}" for kind, sentence in found] == [
        "worked: harmful fell from 90.0 % to 12.0 %, base to ppo "
        "(−78.0 points, 95 % interval −84.7 to −67.2, n = 100)",
        "worse: helpful fell from 95.0 % to 80.0 %, base to ppo "
        "(−15.0 points, 95 % interval −24.3 to −5.9, n = 100)",
        "worse: rude rose from 5.0 % to 33.0 %, sft to ppo "
        "(+28.0 points, 95 % interval +17.5 to +38.1, n = 100)",
        "seen: blue rose from 10.0 % to 50.0 %, base to ppo "
        "(+40.0 points, 95 % interval +27.8 to +50.6, n = 100)",
        "seen: no change seen from base to ppo in rude",
    ]


def test_words_in_an_answer_are_no_share():
    words = {"ppo": figure(38.7), "base": figure(60.5)}
    (axis,) = policies_of({"words": words}).axes
    assert (axis.name, axis.percent, axis.shifts[0]) == ("words in an answer", False, None)
    assert policies_of({"policies": 3, "words": []}) == Policies((), ())


def test_one_policy_or_figures_without_an_interval_say_nothing(bare):
    assert said(bare, policies=shares(base={"harmful": 90})) == []
    plain = policies_of({"policies": {"base": {"harmful": 0.9}, "ppo": {"harmful": 0.1}}})
    assert said(bare, policies=plain) == []
    assert shift_of("harmful", 0.9, share_of(1, 2)) is None
    assert shift_of("harmful", share_of(0, 0), share_of(1, 2)) is None


def score(name, p, context=""):
    return ItemScore(id=name, p_matching=p, matching=p > 0.5, mass=1.0, logprobs=(0.0, 0.0), context=context)


def result(policy, hits, items_hash="0"):
    scores = tuple(score(str(at), float(hit)) for at, hit in enumerate(hits) if hit is not None)
    share = share_of(sum(score.matching for score in scores), len(scores))
    return SetResult(
        **{"set": "flatters", "policy": policy, "model": {}, "items_hash": items_hash, "failed": 0},
        **{"share": share, "p_matching": share, "mass": 1.0, "scores": scores},
        unparsed={"tie": hits.count(None)},
    )


def test_evals_are_compared_on_the_items_that_both_have(bare):
    base = result("base", [1] * 30 + [0] * 10 + [None] * 60)
    ppo = result("ppo", [0] * 20 + [1] * 10 + [0] * 10 + [None] * 60)
    shift = eval_shift(base, ppo)
    # 10 of 40 minus 30 of 40; every item that the second has, the first has too: phi is 1/3.
    assert (shift.tone, shift.difference.value, shift.difference.n) == ("moved", -0.5, 40)
    apart = shift_of("flatters", base.share, ppo.share).difference
    assert apart.low < shift.difference.low < shift.difference.high < apart.high
    assert eval_shift(base, result("ppo", [1, 0], items_hash="1")) is None
    assert eval_shift(result("base", [None]), result("ppo", [1])) is None
    found = said(bare, evals={"flatters": [(base, None), (ppo, shift)]})
    assert found[0] == ("distrust", "base has no score on 60 of 100 items of flatters")
    assert found[2][0] == "seen" and found[2][1].startswith(
        "flatters: answers as the behaviour has it went from 75.0 % to 25.0 % of the items, base to ppo"
    )
    alike = eval_shift(base, base)
    assert said(bare, evals={"same": [(base, None), (base, alike)]})[-1] == ("seen", "no change seen on same")


@pytest.mark.parametrize(
    ("targets", "controls", "kind", "ends"),
    [
        ("1" * 12, "01" * 6, "worked", "it moved, and no change is shown on its controls"),
        ("1" * 12, "1" * 12, "seen", "the controls moved too, so the change is not of its principles alone"),
        ("01" * 6, "01" * 6, "seen", "no change is shown on what they speak about"),
    ],
)
def test_a_set_with_controls_is_told_by_its_kinds(tmp_path, targets, controls, kind, ends):
    run = make_run(tmp_path / "run")
    for path in run.glob("evals/results/*.json"):
        path.unlink()
    before = evals_fakes.result(
        "base", "0" * 12 if "11" in targets else "01" * 6, controls.replace("11", "00")
    )
    for one in (before, evals_fakes.result("ppo", targets, controls)):
        save_result(run, one)
    with Store.open(run, readonly=True) as store:
        report = build(store, read_run(run))
    told = [(one.kind, one.sentence) for one in conclusions(report) if one.sentence.startswith("own")]
    assert [(k, s.endswith(ends)) for k, s in told] == [(kind, True)]
    page = write_report(run).read_text(encoding="utf-8")
    assert "<td>kind: control</td>" in page and "<td>kind: target</td>" in page
    assert ends in page


def test_a_principle_that_is_kept_less_often_got_worse(bare):
    pair = evals_fakes.result("base", "1" * 12, "01" * 6), evals_fakes.result("ppo", "0" * 12, "01" * 6)
    rows = [(pair[0], None), (pair[1], eval_shift(*pair))]
    (found,) = said(bare, evals={"own": rows}, kinds=kind_changes([pair], EvalsConfig()))
    assert found[0] == "worse" and "from 100 to 0 % (-100 points, n = 12, p = 0.00049" in found[1]


def test_items_that_share_a_context_count_together():
    # Ten contexts of four items each: five contexts move as one, which is 5 cases and not 20.
    base = result("base", [1] * 40)
    together = [score(str(at), float(at >= 20), context=f"story {at // 4}") for at in range(40)]
    ppo = result("ppo", [0] * 20 + [1] * 20).model_copy(update={"scores": tuple(together)})
    shared, alone = eval_shift(base, ppo), eval_shift(base, result("ppo", [0] * 20 + [1] * 20))
    assert shared.difference.value == alone.difference.value == -0.5
    assert (shared.difference.low, shared.difference.high) == (-0.8, -0.2)
    assert alone.difference.high - alone.difference.low < 0.4


def training(kind, **summary):
    return trained(Training(name=kind, kind=kind, summary=summary, metrics=[]))


def accuracy(right, n):
    return {"accuracy": share_of(right, n).model_dump()}


@pytest.mark.parametrize(
    ("right", "kind", "ending"),
    [
        (76, "worked", "where chance is 50 %"),
        (55, "distrust", "not shown to be better than chance"),
        (30, "distrust", "not shown to be better than chance"),
    ],
)
def test_accuracy_is_held_against_chance(bare, right, kind, ending):
    ((found, sentence),) = said(bare, training=[training("dpo", held_out=accuracy(right, 100))])
    assert (
        found == kind
        and sentence.endswith(ending)
        and sentence.startswith(f"Train: DPO: right on {right}.0 %")
    )


def test_what_a_trainer_says_of_itself_is_said_once(bare):
    one = training("reward", held_out=accuracy(50, 100), verdict="it is no better than chance")
    assert said(bare, training=[one]) == [("distrust", "Train: reward model: it is no better than chance")]
    few = training("reward", held_out=accuracy(5, 10), warning="too few pairs")
    assert said(bare, training=[few]) == [("distrust", "Train: reward model: too few pairs")]
    few = training("dpo", held_out=accuracy(2, 2), held_out_doubt="figures of 2 pairs")
    assert said(bare, training=[few]) == [("distrust", "Train: DPO: figures of 2 pairs")]


@pytest.mark.parametrize(
    ("after", "kind", "words"),
    [
        (2.0, "seen", "the reward it maximises rose"),
        (0.1, "distrust", "no change seen"),
        (-2.0, "worse", "fell"),
    ],
)
def test_a_reward_that_rises_is_no_better_answer(bare, after, kind, words):
    def reward(value):
        return {"value": value, "low": value - 0.5, "high": value + 0.5, "n": 96}

    one = training("ppo", reward_before=reward(0.0), reward_after=reward(after))
    ((found, sentence),) = said(bare, training=[one])
    assert found == kind and words in sentence


def stage(name, title, ok=0, abstain=0, failed=0, reasons=()):
    return StageRows(title, Counts(stage=name, ok=ok, abstain=abstain, failed=failed), reasons)


def test_rows_that_failed_or_were_removed_are_told(bare):
    fine = stage("generate", "Responses", ok=80)
    assert said(bare, stages=[fine]) == [("worked", "no row failed, of 80 in 1 stage")]
    cut = stage("revise", "Critiques", ok=17, failed=3, reasons=(("failed", "cut at 60 tokens", 3),))
    removed = stage("filter", "Filter", ok=10, abstain=30, reasons=(("abstain", "a copy", 30),))
    assert said(bare, stages=[fine, cut, removed]) == [
        ("distrust", "3 of 140 rows failed (2.1 %), most of them in Critiques: cut at 60 tokens"),
        (
            "distrust",
            "Filter: 75.0 % (59.8 to 85.8, n = 40) of the rows were removed, for example: a copy",
        ),
    ]


def test_labels_are_judged_by_whom_they_agree_with_and_by_their_order(bare, tmp_path):
    run = make_run(tmp_path / "labelled")
    with Store.open(run, readonly=True) as store:
        labels = build(store, read_run(run)).labels
    # Two of six votes flip: their interval holds a half.
    assert said(bare, labels=labels) == [
        ("seen", "33.3 % (9.7 to 70.0, n = 6) of the votes change with the order of the answers")
    ]
    flipped = dataclasses.replace(labels, flips=share_of(80, 100), warnings=["few pairs"])
    oracle = ("labels agree with the oracle", share_of(98, 100), True)
    assert said(bare, labels=flipped, headline=[oracle]) == [
        (
            "worked",
            "labels agree with an oracle in 98.0 % (93.0 to 99.4, n = 100) of the pairs that both decide",
        ),
        ("distrust", "few pairs"),
        ("distrust", "80.0 % (71.1 to 86.7, n = 100) of the votes change with the order of the answers"),
    ]


def test_unfinished_stages_and_labels_come_first_among_doubts(bare):
    early = Unfinished(stage="label", done=3, rows=9)
    assert said(bare, unfinished=[early])[0] == ("distrust", early.sentence)


def test_the_page_opens_with_it_and_hashes_come_last(tmp_path):
    page = write_report(make_run(tmp_path / "run")).read_text()
    order = ['id="verdict"', 'id="policies"', 'id="rows"', 'id="made"', "abc123"]
    places = [page.index(part) for part in order]
    assert places == sorted(places)
    assert "Harmful fell from 90.0 % to 10.0 %, base to ppo (−80.0 points" in page
    assert '<span class="shift better">▼ −80.0 better</span>' in page
    assert "Eval of" not in page and "evals-run" not in page
    held = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert held["policies"]["base"]["harmful"]["value"] == 0.9


def test_stages_have_the_names_people_use():
    stages = [
        "label",
        "evals-run/a/b/base/95039055",
        "evals-run/x/base/1",
        "evals-run/x/base/2",
        "generate",
        "odd/1",
    ]
    assert list(stage_titles(stages).items()) == [
        ("generate", "Responses"),
        ("label", "Preference labels"),
        ("evals-run/a/b/base/95039055", "Eval of base on a/b"),
        ("evals-run/x/base/1", "Eval of base on x (1)"),
        ("evals-run/x/base/2", "Eval of base on x (2)"),
        ("odd/1", "odd/1"),
    ]
    assert stage_titles(["evals-write/helpful/12", "held-out/ppo"]) == {
        "evals-write/helpful/12": "Eval items written: helpful",
        "held-out/ppo": "Held-out answers of ppo",
    }
    assert (training_title("reward", "rm-2"), training_title("new", "new")) == (
        "Train: reward model (rm-2)",
        "Train: new",
    )
    assert (metric_title("clip_fraction"), figure_title("ece")) == ("clip fraction", "calibration error")


def test_figures_are_shown_with_interval_and_n():
    assert show_figure(0.1234) == "12.3 %"
    tenth = Estimate(value=0.1, low=0.05, high=0.2, n=1200)
    assert show_interval(tenth) == "5.0 to 20.0, n = 1\u202f200"
    assert show_figure(tenth, percent=False) == "0.1"
    assert show_figure(-1.23456, percent=False) == "-1.235"
    assert show_interval(0.1) == ""
    assert (show_figure(share_of(0, 0)), show_interval(share_of(0, 0))) == ("–", "n = 0")


def test_a_shift_has_a_sign_and_a_word():
    worse = shift_of("helpful", share_of(95, 100), share_of(80, 100))
    same = shift_of("helpful", share_of(95, 100), share_of(94, 100))
    assert (show_shift(worse), show_reach(worse)) == ("▼ −15.0 worse", "−24.3 to −5.9")
    assert show_shift(same) == "= −1.0 no change seen"
    assert show_shift(shift_of("blue", share_of(1, 100), share_of(90, 100))) == "▲ +89.0"
