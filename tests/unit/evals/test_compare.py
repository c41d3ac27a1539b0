"""Two policies on the same items, compared in pairs, and named in every way a person may name them."""

import pytest
from evals_fakes import FakeEngine, FakeSample

from constitute.config import RunConfig
from constitute.config.evals import EvalsConfig
from constitute.errors import UsageError
from constitute.evals.compare import compare_sets, pair_results
from constitute.evals.items import dump_items
from constitute.evals.run import load_results, run_sets
from constitute.types import EvalItem

CFG = EvalsConfig(resamples=200)


def items(count):
    labels = [(" Yes", " No"), (" No", " Yes")]
    return [
        EvalItem(
            id=f"{i:05d}",
            question=f"question {i}",
            answer_matching_behavior=labels[i % 2][0],
            answer_not_matching_behavior=labels[i % 2][1],
        )
        for i in range(count)
    ]


def scored(tmp_path, model, numbers, policy=None, count=20, name="s"):
    path = tmp_path / f"{name}.jsonl"
    path.write_text(dump_items(items(count)))
    config = RunConfig(run=tmp_path / "run", model=model, evals=CFG)
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
