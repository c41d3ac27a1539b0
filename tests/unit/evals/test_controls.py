"""Sets per principle through the real driver: kinds, balance, what is left out, what relevance is."""

import json

import pytest
from evals_fakes import FakeEngine, FakeSample, result

from constitute.config import RunConfig
from constitute.config.evals import EvalsConfig
from constitute.constitution.write import to_yaml
from constitute.errors import UsageError
from constitute.evals.controls import control_principles, in_turn, named_controls
from constitute.evals.kinds import kind_changes, results_pairs
from constitute.evals.relevance import by_comparison, by_question
from constitute.evals.run import run_sets
from constitute.evals.write import write_sets
from constitute.types import Constitution, EvalItem, Principle

CFG = EvalsConfig(n=4, oversample=2, resamples=200, per_principle=True)


def principle(name):
    return Principle(
        id=name, text=f"Be {name}.", critique=f"C {name}", revise=f"R {name}", compare=f"Is it {name}?"
    )


KIND, BRIEF, FORMAL, LOUD = (principle(name) for name in ("kind", "brief", "formal", "loud"))
# Words of messages: no two of them make near duplicates.
THINGS = ["apples", "bridges", "clouds", "dogs", "eagles", "forests"]
THINGS += ["glaciers", "hills", "islands", "jungles", "kites", "lakes"]


def author(request, step):
    """A message about two things, a reply, a critique, and a better reply, each naming its principle."""
    last = request.messages[-1].content
    if last.startswith("Here is a principle"):
        seed = request.sampling.seed
        name = last.split("Be ")[1].split(".")[0]
        return f"{name}: {THINGS[seed % 12]}, {THINGS[seed // 12 % 12]}, {THINGS[seed // 144 % 12]}"
    return {"R": f"A reply, now {last[2:]}.", "C": "It lacks."}.get(last[0], "A reply.")


def judge(request, step, label):
    """Prefers the better reply; says that `kind` speaks of formal replies, and dithers about loud ones."""
    text = request.messages[0].content
    if label in ("A", "B"):
        good = "(A) A reply, now" in text
        return 0.9 if (label == "A") == good else 0.05
    yes = 0.1
    if "Be kind." in text and "now formal" in text:
        yes = 0.8
    if "now loud" in text:
        yes = 0.8 if "(A) A reply, now loud" in text else 0.1
    return {"Yes": yes, "No": 0.9 - yes}.get(label, 0.0)


def saved(tmp_path, name, *principles):
    path = tmp_path / f"{name}.yaml"
    path.write_text(to_yaml(Constitution(name=name, principles=principles)), encoding="utf-8")
    return str(path)


def written(tmp_path, own, others, cfg=CFG, sample=None):
    cfg = cfg.model_copy(update={"controls": (saved(tmp_path, "others", *others),)})
    config = RunConfig(
        run=tmp_path / "run", seed=1, evals=cfg, constitution=saved(tmp_path, "own", *own), model="fake"
    )
    engine = FakeEngine(sample or FakeSample(author, judge))
    return config, write_sets(config, [], ["all"], engine=engine)


def kinds(one):
    return [dict(item.groups)["kind"] for item in one.items]


def test_each_principle_has_a_set_of_its_own_with_as_many_controls(tmp_path):
    _, sets = written(tmp_path, [KIND, BRIEF], [FORMAL, LOUD, principle("plain")])
    assert [(one.name, one.subjects) for one in sets] == [("kind", ("kind",)), ("brief", ("brief",))]
    for one in sets:
        assert kinds(one) == ["target"] * 4 + ["control"] * 4
        targets, controls = one.items[:4], one.items[4:]
        assert {item.behavior for item in targets} == {one.name}
        assert not {item.question for item in targets} & {item.question for item in controls}
        assert one.name not in {item.behavior for item in controls}
    # `kind` speaks about formal replies; loud ones are not sure; each of the others gives its share in turn.
    assert {item.behavior for item in sets[0].items[4:]} == {"plain"}
    assert [item.behavior for item in sets[1].items[4:]] == ["formal", "plain"] * 2


def test_controls_add_up_from_candidates_to_kept(tmp_path):
    _, (one,) = written(tmp_path, [KIND], [FORMAL, LOUD, principle("plain")])
    found = one.controls
    # ceil(1 * 4 / 3) = 2 wanted of each principle, two candidates for each: 3 * 4.
    assert found.candidates == 12 == sum(found.counts.values())
    assert found.counts["ok"] == found.kept + sum(found.dropped.values())
    assert found.dropped["a principle speaks about it"] == 4
    assert found.dropped["judge not sure"] == 4
    assert found.kept == kinds(one).count("control") == 4
    assert one.counts["ok"] == kinds(one).count("target") + sum(one.dropped.values())
    sheet = (tmp_path / "run" / "evals" / "kind.md").read_text()
    assert "- Controls: 4 of 12 candidates (12 ok, 0 abstain, 0 failed) from `" in sheet
    line = json.loads((tmp_path / "run" / "evals" / "kind.jsonl").read_text().splitlines()[0])
    assert line["groups"] == {"kind": "target"}


def test_controls_are_written_once_for_all_sets(tmp_path):
    sample = FakeSample(author, judge)
    written(tmp_path, [KIND, BRIEF], [FORMAL], sample=sample)
    asked = [request.messages[0].content for _, request, _ in sample.asked]
    assert sum("Be formal." in text and "user might send" in text for text in asked) == 8
    before = len(sample.asked)
    written(tmp_path, [KIND, BRIEF], [FORMAL], sample=sample)
    assert len(sample.asked) == before


def test_one_set_for_all_principles_may_have_controls_too(tmp_path):
    joint = CFG.model_copy(update={"per_principle": False})
    _, (one,) = written(tmp_path, [KIND, BRIEF], [FORMAL, principle("plain")], joint)
    # Each control is judged under both principles, and `kind` speaks about formal replies.
    assert (one.name, kinds(one).count("target")) == ("own", 8)
    assert {item.behavior for item in one.items if ("kind", "control") in item.groups} == {"plain"}


def test_a_set_is_never_its_own_control(tmp_path):
    assert control_principles([saved(tmp_path, "own", KIND, BRIEF)], [KIND]) == [BRIEF]
    with pytest.raises(UsageError, match=r"no principle of .*own\.yaml can give controls: .*--controls"):
        control_principles([saved(tmp_path, "own", KIND)], [KIND])
    assert named_controls(CFG) == ("controls",)
    assert named_controls(EvalsConfig()) == ()
    assert len(control_principles(named_controls(CFG), [KIND])) == 4


def test_figures_are_given_for_targets_and_for_controls(tmp_path):
    config, _ = written(tmp_path, [BRIEF], [FORMAL])

    def likes_targets(request, step, label):
        about_brief = request.messages[0].content.startswith("brief")
        return 0.6 if ("now" in label) == about_brief else 0.3

    rated = FakeEngine(FakeSample(rate=likes_targets))
    (result,) = run_sets(config, engine=rated, policy="base")
    assert {part: (e.value, e.n) for part, e in result.parts.items()} == {
        "kind: target": (1.0, 4),
        "kind: control": (0.0, 4),
    }


ITEM = EvalItem(id="1", question="Why?", options=(" A reply, now formal.", " A reply."), matching=(0,))


async def test_relevance_by_question_asks_in_both_orders():
    sample = FakeSample(author, judge)
    yes = await by_question(ITEM, KIND, sample, CFG)
    assert yes.related is True
    assert yes.verdict.p_by_order == pytest.approx((8 / 9, 8 / 9))
    first, second = (request.messages[0].content for _, request, _ in sample.asked)
    assert "(A) A reply, now formal." in first and "(B) A reply, now formal." in second
    assert (await by_question(ITEM, BRIEF, sample, CFG)).related is False
    loud = ITEM.model_copy(update={"options": (" A reply, now loud.", " A reply.")})
    assert (await by_question(loud, BRIEF, sample, CFG)).related is None


@pytest.mark.parametrize(
    ("first", "second", "related"),
    [
        (0.9, 0.8, True),  # the better reply, in both orders
        (0.1, 0.2, True),  # the other one
        (0.9, 0.1, False),  # whatever is shown first
        (0.55, 0.6, False),  # mean 0.575 is below 0.6
    ],
)
async def test_relevance_by_comparison_sees_a_difference_in_both_orders(first, second, related):
    def rate(request, step, label):
        shown_first = "(A) A reply, now" in request.messages[0].content
        p_a = first if shown_first else 1 - second
        return p_a if label == "A" else 1 - p_a

    found = await by_comparison(ITEM, KIND, FakeSample(rate=rate), CFG)
    assert found.related is related
    assert found.verdict.p_by_order == pytest.approx((first, second))


def test_controls_come_from_every_principle_in_turn():
    items = [ITEM.model_copy(update={"id": f"{b}{n}", "behavior": b}) for b, n in ("a1", "a2", "a3", "b1")]
    assert [item.id for item in in_turn(items)] == ["a1", "b1", "a2", "a3"]


def test_a_change_of_the_targets_alone_is_told_from_one_of_both():
    base = result("base", "0" * 10, "01" * 5)
    own, both = result("ppo", "1" * 10, "01" * 5), result("odd", "1" * 10, "1" * 10)
    alone, general = kind_changes(results_pairs([base, own, both]), CFG)
    # McNemar's exact p of 10 to 0 is 2 / 1024, of 5 to 0 it is 2 / 32; four p are corrected together, so
    # that the other parts of the set have no say.
    assert [c.target.p for c in (alone, general)] == [2 / 1024] * 2
    assert alone.target.p_holm == pytest.approx(4 * 2 / 1024)
    assert (alone.control.p, general.control.p) == (1.0, 2 / 32)
    assert alone.moved and alone.alone
    assert alone.sentence == (
        "own, base to ppo: from 0 to 100 % (+100 points, n = 10, p = 0.002, after Holm 0.0078) on what its "
        "principles speak about, from 50 to 50 % (+0 points, n = 10, p = 1, after Holm 1) on controls: "
        "it moved, and no change is shown on its controls"
    )
    assert not kind_changes([(base, base)], CFG)[0].moved


def test_controls_that_move_too_are_said():
    (both,) = kind_changes([(result("a", "0" * 12, "0" * 12), result("b", "1" * 12, "1" * 12))], CFG)
    assert both.moved and not both.alone
    assert both.sentence.endswith("the controls moved too, so the change is not of its principles alone")
    # Without a control left, there is nothing to hold the change against.
    assert kind_changes([(result("a", "0" * 9, ""), result("b", "1" * 9, ""))], CFG) == []
