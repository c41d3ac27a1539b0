"""Two policies on the same items, compared in pairs, and named in every way a person may name them."""

import csv
import json

import pytest
from click.testing import CliRunner
from evals_fakes import FakeEngine, FakeSample

from constitute.cli.main import cli
from constitute.config import RunConfig
from constitute.config.evals import EvalsConfig
from constitute.errors import UsageError
from constitute.evals.compare import (
    as_csv,
    asked_otherwise,
    compare_parts,
    compare_sets,
    left_alone,
    pair_results,
    pairs_of,
    thin_ones,
)
from constitute.evals.items import dump_items
from constitute.evals.policies import find_policies
from constitute.evals.run import load_results, result_path, run_sets
from constitute.progress import Silent
from constitute.stats import share_of
from constitute.types import EvalItem

CFG = EvalsConfig(resamples=200)


def items(count, parts=()):
    """Items whose groups are `kind: part`, the parts in turn."""
    labels = [(" Yes", " No"), (" No", " Yes")]
    return [
        EvalItem(
            id=f"{i:05d}",
            question=f"question {i}",
            answer_matching_behavior=labels[i % 2][0],
            answer_not_matching_behavior=labels[i % 2][1],
            groups=(("kind", parts[i % len(parts)]),) if parts else (),
        )
        for i in range(count)
    ]


def scored(tmp_path, model, numbers, policy=None, count=20, name="s", parts=(), run="run"):
    path = tmp_path / f"{name}.jsonl"
    path.write_text(dump_items(items(count, parts)))
    config = RunConfig(run=tmp_path / run, model=model, evals=CFG)
    engine = FakeEngine(FakeSample(rate=follows(numbers)), model)
    (result,) = run_sets(config, [path], policy=policy, engine=engine)
    return result


def follows(numbers):
    """A policy whose answer matches on the items numbered; items are numbered from 0."""

    def rate(request, step, label):
        i = int(request.messages[0].content.split()[1])
        matching = "Yes" if i % 2 == 0 else "No"
        p = 0.8 + i / 1000 if i in numbers else 0.1 + i / 1000
        return {matching: p}.get(label, 0.9 - p) if label in ("Yes", "No") else 0.0

    return rate


def test_two_policies_are_compared_in_pairs(tmp_path):
    base = scored(tmp_path, "base", set(range(14)))
    ppo = scored(tmp_path, "ppo", {0, 1, 2, 19})
    assert (base.share.value, ppo.share.value) == (14 / 20, 4 / 20)
    assert load_results(tmp_path / "run", "ppo") == [ppo]
    config = RunConfig(run=tmp_path / "run")
    (paired,) = compare_sets(pair_results(config, "base", "ppo"), CFG)
    assert (paired.only_first, paired.only_second, paired.share.n, paired.n_left_out) == (11, 1, 20, 0)
    assert paired.p == paired.p_holm == pytest.approx(2 * 13 / 4096)
    assert paired.share.value == pytest.approx(-10 / 20)
    assert paired.share.low < paired.share.value < paired.share.high < 0
    assert paired.p_matching.value == pytest.approx(-10 * 0.7 / 0.9 / 20)
    assert (paired.clusters, paired.equal.holds) == (20, False)
    assert paired.sentence.startswith("ppo matches less often: -0.500 (")


def test_items_that_share_a_context_count_as_one(tmp_path):
    """Eight contexts of five items: on all items of six of them only the second policy matches."""
    first, second = (scored(tmp_path, name, set(), count=40, name="t") for name in ("base", "ppo"))

    def result(before, matching):
        scores = tuple(
            score.model_copy(update={"context": f"c{i // 5}", "matching": matching(i)})
            for i, score in enumerate(before.scores)
        )
        return before.model_copy(update={"scores": scores})

    pair = result(first, lambda i: False), result(second, lambda i: i < 30)
    (paired,) = compare_sets([pair], CFG)
    assert (paired.only_second, paired.clusters) == (30, 8)
    # Six of six contexts: 2 / 2^6, not 2 / 2^30.
    assert paired.p == pytest.approx(2 / 64)
    alone = compare_sets([tuple(r.model_copy(update={"scores": tuple(
        s.model_copy(update={"context": ""}) for s in r.scores)}) for r in pair)], CFG)[0]  # fmt: skip
    assert alone.p == pytest.approx(2 / 2**30)
    width = paired.share.high - paired.share.low
    assert width > 1.8 * (alone.share.high - alone.share.low)


def test_policies_that_were_asked_in_two_ways_are_named(tmp_path):
    pair = scored(tmp_path, "a", {1, 2}), scored(tmp_path, "b", {1, 3})
    assert asked_otherwise([pair]) == []
    first, second = pair
    opened = second.model_copy(update={"asked": second.asked | {"opening": "Well"}})
    assert asked_otherwise([(first, opened)]) == [
        "s: a and b were asked in two ways (opening None and 'Well'), so a change may come from that"
    ]
    # A result of an earlier version does not say how it was asked.
    assert asked_otherwise([(first.model_copy(update={"asked": {}}), opened)]) == []
    by = [
        r.model_copy(update={"read_by": {"judge": {"name": n}}})
        for r, n in zip(pair, ("x", "y"), strict=True)
    ]
    assert asked_otherwise([tuple(by)]) == [
        "s: a and b were asked in two ways (judge 'x' and 'y'), so a change may come from that"
    ]
    rated = second.model_copy(update={"read_by": {"scorer": "shout.py:shouting#1"}})
    with pytest.raises(UsageError, match="s: a and b were not rated by the same scorer"):
        asked_otherwise([(by[0], rated)])


def test_scores_that_rest_on_little_probability_are_said_where_they_are_compared(tmp_path):
    first, second = scored(tmp_path, "a", {1, 2}), scored(tmp_path, "b", {1, 3})
    thin = second.model_copy(update={"thin": share_of(15, 20)})
    assert thin_ones([(first, second)], CFG) == []
    (said,) = thin_ones([(first, thin), (first, thin)], CFG)
    assert said.startswith("s: on 15 of 20 items b gives the labels together less than 0.1 probability")


def test_no_change_is_claimed_only_where_it_is_shown(tmp_path):
    few = (scored(tmp_path, "a", {1, 2}), scored(tmp_path, "b", {1, 2}))
    assert compare_sets([few], CFG)[0].sentence.startswith("no change is shown, and none is excluded")
    many = (
        scored(tmp_path, "a", {1, 2}, count=400, name="u"),
        scored(tmp_path, "b", {1, 3}, count=400, name="u"),
    )
    assert compare_sets([many], CFG)[0].sentence.startswith("no change of 0.05 or more: 0.000 (")


def test_a_policy_is_named_by_name_by_model_and_as_base(tmp_path):
    (tmp_path / "run" / "ppo").mkdir(parents=True)
    first = scored(tmp_path, "pocket", {0, 1})
    second = scored(tmp_path, str(tmp_path / "run" / "ppo"), {0, 1, 2})
    third = scored(tmp_path, "org/Qwen", {0, 3}, policy="mine")
    assert [result.policy for result in (first, second, third)] == ["pocket", "ppo", "mine"]
    config = RunConfig(run=tmp_path / "run", model="pocket")
    for given in ("ppo", str(tmp_path / "run" / "ppo"), str(tmp_path / "run" / "ppo") + "/"):
        assert pair_results(config, "base", given) == [(first, second)]
    assert pair_results(config, "pocket", "org/Qwen") == [(first, third)]
    with pytest.raises(UsageError, match=r"of policy 'sft' in .*known: mine \(model org/Qwen\), pocket "):
        pair_results(config, "base", "sft")


def test_other_items_are_not_compared(tmp_path):
    pair = (scored(tmp_path, "p", {1, 2}, count=8), scored(tmp_path, "q", {1, 2}, count=9))
    with pytest.raises(UsageError, match="scored on other items of 's'"):
        compare_sets([pair], CFG)


def test_another_model_never_takes_the_place_of_a_result(tmp_path):
    scored(tmp_path, "x/ppo", {1, 2})
    with pytest.raises(UsageError, match=r"s--ppo\.json is the result of x/ppo, and y/ppo would take"):
        scored(tmp_path, "y/ppo", {1, 2})
    assert scored(tmp_path, "y/ppo", {1, 2}, policy="other").policy == "other"
    assert scored(tmp_path, "x/ppo", {1, 2}, count=9).share.n == 9


def test_each_policy_is_compared_with_the_first_and_holm_counts_all_of_them(tmp_path):
    """Discordant 11 to 1, 6 to 0 and 3 to 1: p is 26/2^12, 2/2^6 and 10/2^4, times 3, 2 and 1."""
    scored(tmp_path, "base", set(range(14)))
    scored(tmp_path, "ppo-step-10", {0, 1, 2, 19})
    scored(tmp_path, "ppo-step-9", set(range(8)))
    scored(tmp_path, "sft", {*range(11), 14})
    config = RunConfig(run=tmp_path / "run")
    found = find_policies([config], ["base", "ppo-step-*", "sft", "base"])
    assert [policy.name for policy in found] == ["base", "ppo-step-9", "ppo-step-10", "sft"]
    compared = compare_sets(pairs_of(found), CFG)
    assert [(one.first, one.second) for one in compared] == [
        ("base", name) for name in ("ppo-step-9", "ppo-step-10", "sft")
    ]
    assert [one.p for one in compared] == pytest.approx([2 / 64, 26 / 4096, 10 / 16])
    assert [one.p_holm for one in compared] == pytest.approx([4 / 64, 78 / 4096, 10 / 16])
    assert [policy.name for policy in find_policies([config], ["sft"])] == [
        *("sft", "base", "ppo-step-9", "ppo-step-10")
    ]


def test_parts_are_compared_and_corrected_apart(tmp_path):
    """Target items (even) lose 6 of 10, control items (odd) 1: p is 2/2^6 and 1, corrected for two parts."""
    parts = ("target", "control")
    base = scored(tmp_path, "base", set(range(20)), parts=parts)
    ppo = scored(tmp_path, "ppo", {*range(20)} - {0, 2, 4, 6, 8, 10, 1}, parts=parts)
    assert base.scores[0].groups == (("kind", "target"),)
    (whole,) = compare_sets([(base, ppo)], CFG)
    assert (whole.part, whole.only_first, whole.p_holm) == ("", 7, pytest.approx(2 / 2**7))
    control, target = compare_parts([(base, ppo)], CFG)
    assert [(one.part, one.share.n, one.only_first) for one in (control, target)] == [
        ("kind: control", 10, 1),
        ("kind: target", 10, 6),
    ]
    assert (target.share_first, target.share_second) == (1.0, 0.4)
    assert (target.p, target.p_holm) == pytest.approx((2 / 64, 4 / 64))
    assert (control.p, control.p_holm) == (1.0, 1.0)
    assert control.sentence.startswith("no change is shown, and none is excluded: -0.100 (")
    # A part that holds every item would say the same twice.
    whole_part = [scored(tmp_path, name, {0, 1}, name="t", parts=("one",)) for name in ("base", "ppo")]
    assert compare_parts([tuple(whole_part)], CFG) == []


def test_csv_has_every_figure_of_a_comparison(tmp_path):
    parts = ("target", "control")
    pair = (
        scored(tmp_path, "base", set(range(20)), parts=parts),
        scored(tmp_path, "ppo", {*range(20)} - {0, 2, 4, 6, 8, 10, 1}, parts=parts),
    )
    compared = [*compare_sets([pair], CFG), *compare_parts([pair], CFG)]
    whole, control, target = csv.DictReader(as_csv(compared).splitlines())
    assert (whole["set"], whole["part"], whole["first"], whole["second"]) == ("s", "", "base", "ppo")
    assert [float(whole[key]) for key in ("n", "only_first", "share_second", "p")] == [20, 7, 0.65, 2 / 2**7]
    assert (control["n_left_out"], whole["n_left_out"]) == ("", "0")
    assert [float(target[key]) for key in ("change", "change_low", "change_high")] == [
        *(compared[2].share.value, compared[2].share.low, compared[2].share.high)
    ]
    formula = compared[0].model_copy(update={"first": "=SUM(A1)"})
    (row,) = csv.DictReader(as_csv([formula]).splitlines())
    assert row["first"] == "'=SUM(A1)"


def test_items_without_a_score_of_both_are_said(tmp_path):
    base = scored(tmp_path, "base", {0, 1})
    ppo = scored(tmp_path, "ppo", {0, 1}).model_copy(update={"scores": base.scores[5:]})
    (one,) = compare_sets([(base, ppo)], CFG)
    assert (one.share.n, one.n_left_out) == (15, 5)
    assert one.sentence.endswith("; 15 of 20 items have a score of both")


def test_policies_of_several_runs_and_files_are_told_apart(tmp_path):
    scored(tmp_path, "base", {0, 1}, run="one")
    scored(tmp_path, "base", {0, 1}, run="two")
    scored(tmp_path, "ppo", {0, 2}, run="one")
    scored(tmp_path, "ppo", {0, 3}, run="two")
    scored(tmp_path, "sft", {0, 3}, run="two", name="t", count=9)
    one, two = (RunConfig(run=tmp_path / name) for name in ("one", "two"))
    # What is the same in both runs counts once.
    found = find_policies([one, two], ["base", "ppo"])
    assert [policy.name for policy in found] == ["base", "one:ppo", "two:ppo"]
    assert [pair[1].policy for pair in pairs_of(found)] == ["one:ppo", "two:ppo"]
    file = result_path(tmp_path / "two", "s", "ppo")
    mixed = find_policies([one], ["ppo", str(file), f"{tmp_path / 'two'}:base"])
    assert [policy.name for policy in mixed] == ["one:ppo", "s--ppo:ppo", "base"]
    assert [result.set for result in mixed[1].results.values()] == ["s"]
    with pytest.raises(UsageError, match=r"no results of policy 'dpo' in .*two/evals/results"):
        find_policies([one], [f"{tmp_path / 'two'}:dpo"])
    with pytest.raises(UsageError, match=r"one policy alone \(base\) and nothing to compare it with"):
        pairs_of(find_policies([one], ["base", f"{tmp_path / 'two'}:base"]))
    with pytest.raises(UsageError, match="'base' and 'sft' were scored on no set in common"):
        pairs_of(find_policies([two], ["base", "ppo", "sft"]))
    found = find_policies([two], ["base", "ppo"])
    extra = scored(tmp_path, "base", {0}, run="two", name="u", count=7)
    found[0].results["u"] = extra
    assert left_alone(found) == ["u: not scored for ppo, so not compared there"]


def test_the_command_compares_runs_and_writes_csv(tmp_path):
    scored(tmp_path, "base", set(range(20)), run="one", parts=("target", "control"))
    scored(tmp_path, "ppo", {0, 1}, run="two", parts=("target", "control"))
    runs = ["--run", str(tmp_path / "one"), "--run", str(tmp_path / "two")]
    out = tmp_path / "changes.csv"
    done = CliRunner().invoke(cli, ["evals", "compare", "base", "ppo", *runs, "--json", "--csv", str(out)])
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(r["part"], r["only_first"], r["sentence"][:25]) for r in records] == [
        ("", 18, "ppo matches less often: -"),
        ("kind: control", 9, "ppo matches less often: -"),
        ("kind: target", 9, "ppo matches less often: -"),
    ]
    assert [row["part"] for row in csv.DictReader(out.read_text().splitlines())] == [
        r["part"] for r in records
    ]
    shown = CliRunner().invoke(cli, ["evals", "compare", "base", "ppo", *runs]).stdout
    assert "s, kind: target: ppo matches less often: -0.900 (" in shown
    missing = CliRunner().invoke(cli, ["evals", "compare", "base", "dpo", *runs])
    assert "no results of policy 'dpo' in " in str(missing.exception)


def test_items_that_repeat_others_are_said_when_they_are_scored(tmp_path):
    class Notes(Silent):
        def note(self, text):
            notes.append(text)

    notes = []
    path = tmp_path / "twice.jsonl"
    path.write_text(dump_items([*items(6), *items(4)]))
    config = RunConfig(run=tmp_path / "run", model="a", evals=CFG)
    engine = FakeEngine(FakeSample(rate=follows({1, 2})), "a")
    (result,) = run_sets(config, [path], engine=engine, progress=Notes())
    assert result.share.n == 10
    assert notes == [
        "twice: 4 of 10 items repeat another to the letter and count again; "
        "`constitute evals check --fix DIR` leaves them out"
    ]
