"""The policies that a training kept are scored under their steps; what cannot be loaded is said."""

import json

import pytest
from evals_fakes import FakeEngine, FakeSample

from constitute.config import RunConfig
from constitute.errors import GateFailed, UsageError
from constitute.evals.checkpoints import run_policies, step_policies
from constitute.evals.items import dump_items, kept_items
from constitute.evals.run import load_results
from constitute.train.overopt.read import policies_by_step
from constitute.types import EvalItem


def trained(folder, kept, iterations=12):
    for place in kept:
        (folder / place).mkdir(parents=True)
        (folder / place / "config.json").write_text("{}")
    lines = [json.dumps({"iteration": at + 1}) + "\n" for at in range(iterations)]
    (folder / "metrics.jsonl").write_text("".join(lines))


def test_every_kept_policy_is_found_under_its_step(tmp_path):
    ppo = tmp_path / "ppo"
    trained(
        ppo, ["policies/iteration-000004", "checkpoints/iteration-000012/policy", "policies/iteration-000008"]
    )
    found = step_policies("ppo", policies_by_step(ppo))
    assert list(found) == ["ppo-step-4", "ppo-step-8", "ppo-step-12"]
    assert found["ppo-step-12"] == ppo / "checkpoints" / "iteration-000012" / "policy"


def test_a_folder_without_a_policy_to_load_is_said(tmp_path):
    with pytest.raises(UsageError, match=r"holds no training with checkpoints \(no metrics\.jsonl\)"):
        policies_by_step(tmp_path / "none")
    trained(tmp_path, ["checkpoints/iteration-000004/policy"])
    (tmp_path / "checkpoints" / "iteration-000004" / "policy" / "config.json").unlink()
    with pytest.raises(UsageError, match=r"keeps no policy that can be loaded .*keep_policies=true"):
        policies_by_step(tmp_path)


def test_policies_are_scored_in_turn_and_the_items_are_kept(tmp_path):
    items = [
        EvalItem(id=f"{at + 1:05d}", question=f"q {at}", options=(" Yes", " No"), matching=(at % 2,))
        for at in range(4)
    ]
    file = tmp_path / "s.jsonl"
    file.write_text(dump_items(items))
    config = RunConfig(run=tmp_path / "run")

    def rate(request, step, label):
        p = 0.6 + int(request.messages[0].content.split()[1]) / 100
        return {"Yes": p, "No": 1 - p}.get(label, 0.0)

    policies = step_policies("ppo", {8: tmp_path / "b", 4: tmp_path / "a"})
    results = run_policies(config, policies, [file], engine=FakeEngine(FakeSample(rate=rate)))
    assert [(one.policy, one.share.value) for one in results] == [("ppo-step-4", 0.5), ("ppo-step-8", 0.5)]
    assert sorted(one.policy for one in load_results(config.run)) == ["ppo-step-4", "ppo-step-8"]
    kept = kept_items(config.run, results[0].items_hash)
    assert [(item.id, item.question) for item in kept] == [(item.id, item.question) for item in items]
    # One that fails its gate is named, and stops none after it.
    constant = FakeEngine(
        FakeSample(rate=lambda request, step, label: {"Yes": 0.7, "No": 0.3}.get(label, 0.0))
    )
    with pytest.raises(GateFailed, match=r"^x-step-1: all 4 items .*; x-step-2: all 4 items"):
        run_policies(config, step_policies("x", {1: tmp_path, 2: tmp_path}), [file], engine=constant)
