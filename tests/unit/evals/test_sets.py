"""Whole sets through the real driver and store: counts that add up, resume, files, comparison."""

import hashlib
import json
from functools import partial

import pytest
from evals_fakes import FakeEngine, FakeSample

from constitute.config.evals import EvalsConfig
from constitute.errors import DataError, GateFailed, UsageError
from constitute.evals.compare import compare_sets
from constitute.evals.files import (
    load_result,
    load_results,
    load_sets,
    load_written,
    pair_results,
    policy_name,
    save_result,
    save_written,
)
from constitute.evals.items import read_items
from constitute.evals.sets import run_set, write_persona, write_replies
from constitute.pipeline import drive
from constitute.store import Store
from constitute.types import Completion, EvalItem, Principle

CFG = EvalsConfig(n=6, oversample=3, resamples=200)
NAMES = "apples bridges clouds dogs eagles forests glaciers hills islands jungles kites lakes"
THINGS = NAMES.split()


def number(text, top):
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) % top


def author(request, step):
    """Writes about a thing for and against; some sentences are cut off and some repeat."""
    seed = request.sampling.seed
    if seed % 7 == 0:
        return Completion(text="I", finish_reason="length")
    verb = "love" if " agree with" in request.messages[0].content else "hate"
    return f"I {verb} {THINGS[seed % 12]} and the sound of {THINGS[seed // 12 % 12]}."


def gate(request, step, label):
    """Sure of most, wrong about some, silent on those about lakes."""
    text = request.messages[0].content
    if "lakes" in text:
        return 0.001
    p = 0.3 + number(text, 60) / 100
    agrees = "love" in text
    return {"Yes": p if agrees else 0.95 - p, "No": 0.95 - p if agrees else p}.get(label, 0.0)


def opened(tmp_path, engine, cfg=CFG):
    store = Store.open(tmp_path / "run")
    run = partial(drive, engine=engine, store=store, seed=1)
    return store, {"drive": run, "store": store, "model": engine.identity, "cfg": cfg}


async def test_candidates_add_up_from_written_to_kept(tmp_path):
    store, given = opened(tmp_path, FakeEngine(FakeSample(author, gate)))
    with store:
        one = await write_persona("loves things", **given)
    assert one.candidates == 18
    assert sum(one.counts.values()) == 18
    assert one.counts["ok"] == len(one.items) + sum(one.dropped.values())
    assert one.counts["abstain"] + one.counts["failed"] == sum(one.reasons.values()) > 0
    assert set(one.reasons) <= {"statement was cut at 48 tokens", "label mass below 0.1"}
    assert [item.answer_matching_behavior for item in one.items] == [" Yes", " No"] * (len(one.items) // 2)
    assert all(item.label_confidence > 0.5 for item in one.items)


async def test_a_set_is_the_same_again_and_asks_nothing_twice(tmp_path):
    sample = FakeSample(author, gate)
    store, given = opened(tmp_path, FakeEngine(sample))
    with store:
        one = await write_persona("loves things", **given)
        asked = len(sample.asked)
        assert await write_persona("loves things", **given) == one
        assert len(sample.asked) == asked
        # Wanting more goes on from what is there; another model starts anew.
        more = await write_persona("loves things", **{**given, "cfg": CFG.model_copy(update={"n": 8})})
        assert more.candidates == 24
        again = len(sample.asked)
        other = FakeEngine(sample, "other")
        run = partial(drive, engine=other, store=store, seed=1)
        await write_persona("loves things", **{**given, "drive": run, "model": other.identity})
        assert len(sample.asked) > again + 18
        smaller = await write_persona("loves things", **given)
        assert smaller == one


async def test_no_survivor_is_a_failed_gate(tmp_path):
    sample = FakeSample(author, lambda request, step, label: {"Yes": 0.5, "No": 0.5}.get(label, 0.0))
    store, given = opened(tmp_path, FakeEngine(sample))
    with (
        store,
        pytest.raises(GateFailed, match=r"no item of loves-things survives .*18 candidates .*confidence: "),
    ):
        await write_persona("loves things", **given)


async def test_replies_keep_their_principle_and_drop_an_undecided_judge(tmp_path):
    principles = [
        Principle(
            id=name, text=f"Be {name}.", critique=f"C {name}", revise=f"R {name}", compare=f"Is it {name}?"
        )
        for name in ("kind", "brief")
    ]

    def say(request, step):
        last = request.messages[-1].content
        if len(request.messages) == 1 and last.startswith("Here is a principle"):
            seed = request.sampling.seed
            return f"Tell me of {THINGS[seed % 12]} and {THINGS[seed // 12 % 12]}"
        return {"R": "A better reply.", "C": "It lacks."}.get(last[0], "A reply.")

    def rate(request, step, label):
        text = request.messages[0].content
        if "Is it brief?" in text:
            return {"A": 0.8, "B": 0.1}[label]
        return {"A": 0.85, "B": 0.1}[label] if "(A) A better reply." in text else {"A": 0.1, "B": 0.85}[label]

    store, given = opened(tmp_path, FakeEngine(FakeSample(say, rate)), CFG.model_copy(update={"n": 3}))
    with store:
        one = await write_replies("two", principles, **given)
        path = save_written(tmp_path, one)
    assert {item.behavior for item in one.items} == {"kind"}
    assert len(one.items) == 3
    assert one.dropped["orders disagree"] == 9
    assert one.items[0].label_confidence == pytest.approx(0.85 / 0.95)
    assert set(json.loads(path.read_text().splitlines()[0])) == {
        "question",
        "answer_matching_behavior",
        "answer_not_matching_behavior",
    }
    assert load_written(tmp_path) == [one]


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


def follows(numbers):
    """A policy whose answer matches on the items numbered."""

    def rate(request, step, label):
        i = int(request.messages[0].content.split()[1])
        matching = "Yes" if i % 2 == 0 else "No"
        p = 0.8 + i / 1000 if i in numbers else 0.1 + i / 1000
        return {matching: p}.get(label, 0.9 - p) if label in ("Yes", "No") else 0.0

    return rate


async def test_two_policies_are_compared_in_pairs(tmp_path):
    results = {}
    for policy, numbers in {"base": set(range(14)), "ppo": {0, 1, 2, 19}}.items():
        store, given = opened(tmp_path, FakeEngine(FakeSample(rate=follows(numbers)), policy))
        with store:
            results[policy] = await run_set("s", items(20), policy=policy, **given)
        save_result(tmp_path / "run", results[policy])
    assert (results["base"].share.value, results["ppo"].share.value) == (14 / 20, 4 / 20)
    assert load_results(tmp_path / "run", "ppo") == [results["ppo"]]
    (paired,) = compare_sets(pair_results(tmp_path / "run", "base", "ppo"), 500)
    assert (paired.only_first, paired.only_second, paired.n, paired.n_left_out) == (11, 1, 20, 0)
    assert paired.p == paired.p_holm == pytest.approx(2 * 13 / 4096)
    assert paired.share == pytest.approx(-10 / 20)
    assert paired.share_low < paired.share < paired.share_high < 0
    assert paired.p_matching == pytest.approx(-10 * 0.7 / 0.9 / 20)
    with pytest.raises(UsageError, match=r"no results of policy 'sft' .* known: base, ppo"):
        pair_results(tmp_path / "run", "base", "sft")


async def test_other_items_are_not_compared(tmp_path):
    pair = []
    for count in (8, 9):
        store, given = opened(tmp_path, FakeEngine(FakeSample(rate=follows({1, 2}))))
        with store:
            pair.append(await run_set("s", items(count), policy=f"p{count}", **given))
    with pytest.raises(UsageError, match="scored on other items of 's'"):
        compare_sets([tuple(pair)], 200)


def test_sets_are_named_by_file_and_then_by_folder(tmp_path):
    line = json.dumps(
        {"question": "q", "answer_matching_behavior": " Yes", "answer_not_matching_behavior": " No"}
    )
    for name in ("lm/x.jsonl", "human/x.jsonl", "y.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(line + "\n")
    files = [tmp_path / "lm" / "x.jsonl", tmp_path / "human" / "x.jsonl", tmp_path / "y.jsonl"]
    assert list(load_sets(files, tmp_path, None)) == ["lm-x", "human-x", "y"]
    with pytest.raises(UsageError, match=r"no eval sets in .*evals write"):
        load_sets([], tmp_path, None)
    (tmp_path / "evals").mkdir()
    (tmp_path / "evals" / "z.jsonl").write_text(line + "\n")
    assert list(load_sets([], tmp_path, None)) == ["z"]
    assert read_items(tmp_path / "evals" / "z.jsonl")[0].family == "persona"


def test_broken_results_are_named(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read the result .*none\.json"):
        load_result(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(DataError, match=r"bad\.json is not a result"):
        load_result(tmp_path / "bad.json")


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("pocket", "pocket"),
        ("Qwen/Qwen3-0.6B", "Qwen3-0.6B"),
        ("./run/ppo/", "ppo"),
        ("http://127.0.0.1:8000/v1", "127.0.0.1-8000"),
    ],
)
def test_policies_are_named_after_their_model(model, name):
    assert policy_name(model) == name
