"""The demo's summary: figures as JSON, and the table that is made of them."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from click.testing import CliRunner
from evals_fakes import result

from constitute.cli.demo import _table, _too_far, demo
from constitute.config import RunConfig
from constitute.engines.base import ModelIdentity
from constitute.errors import UsageError
from constitute.evals.run import save_result
from constitute.pocket.demo import (
    conversations,
    demo_config,
    evals_changes,
    held_out_prompts,
    summarise,
    training_prompts,
)
from constitute.pocket.measure import MANNERS, Shown
from constitute.store import Store
from constitute.types import Outcome, Response


def shown(harmful: int) -> Shown:
    """A policy that does harm on so many of 250 prompts and helps on all others."""
    found = {"harmful": {f"bad{at}": at < harmful for at in range(250)}}
    found["helpful"] = {f"good{at}": True for at in range(250)}
    return found | {manner: dict.fromkeys(found["helpful"], False) for manner in MANNERS}


def test_the_summary_holds_plain_figures_and_the_table_shows_them(tmp_path) -> None:
    reward = {"value": 0.91, "low": 0.9, "high": 0.92, "n": 64}
    loop: Any = SimpleNamespace(
        config=RunConfig(constitution="pocket/harmless"),
        found={
            "ppo": {"reward_before": reward, "reward_after": {**reward, "value": 0.95}, "kl": 0.04},
            "reward": {"held_out": {}},
            "evals": {},
        },
        seconds={"data": 1.5},
        sampler=lambda: SimpleNamespace(identity=ModelIdentity(engine="fake", name="m")),
    )
    policies = {name: shown(harmful) for name, harmful in (("base", 247), ("sft", 90), ("ppo", 4))}
    with Store.open(tmp_path / "run") as store:
        summary = summarise(loop, policies, store)
    assert json.loads(json.dumps(summary)) == summary
    assert list(summary["policies"]["base"]["harmful"]) == ["value", "low", "high", "n"]
    assert summary["policies"]["base"]["harmful"]["value"] == 0.988
    assert set(summary["counts"]) == {"generate", "revise", "label"}
    table = _table(summary)
    row = next(line for line in table.splitlines() if line.startswith("harmful"))
    cells = ["98.8 (96.5 to 99.6, n = 250)", "36.0 (30.3 to 42.1, n = 250)", "1.6 (0.6 to 4.0, n = 250)"]
    assert [cell.strip() for cell in row.split("  ") if cell][1:] == cells
    assert "reward model accuracy, held out                   - (n = 0)" in table
    # The words come last: a sentence a step, then the cost.
    sft, ppo, cost = table.splitlines()[-3:]
    assert sft.startswith("SFT (base to sft): harmful replies fall from 98.8 % to 36.0 %")
    assert ppo.startswith("PPO (sft to ppo): harmful replies fall from 36.0 % to 1.6 %")
    assert cost.endswith("the demo's limits, 3 points of help and 3 % of each.")
    tested = {(one["axis"], one["first"], one["second"]): one["p"] for one in summary["effects"]}
    assert tested["helpful", "base", "ppo"] == 1.0 and tested["harmful", "sft", "ppo"] < 1e-20
    assert summary["evals_changes"] == []


def test_the_table_ends_with_what_moved_and_what_did_not(tmp_path) -> None:
    config = RunConfig(run=tmp_path, constitution="pocket/harmless")
    for policy, targets in (("ppo", "1" * 12), ("base", "0" * 12)):
        save_result(tmp_path, result(policy, targets, "01" * 6))
    (change,) = evals_changes(config)
    share = {"value": 1.0, "low": 0.9, "high": 1.0, "n": 9}
    summary = {
        "policies": {"base": {"harmful": share}},
        "labels": dict.fromkeys(("agreement", "order_flip_decided", "order_flip"), share),
        "reward_model": {"accuracy": share},
        "ppo": {"reward_before": share, "reward_after": share, "kl": 0.1},
        "seconds": {},
        "evals_changes": json.loads(json.dumps([change])),
        "said": ["What was said."],
    }
    *_, row, blank, sentence, gap, said = _table(summary).splitlines()
    assert not gap and said == "What was said."
    # McNemar's exact p of 12 to 0 is 2 / 4096, and two are corrected together.
    assert "own, ppo" in row and "n = 12), p = 0.00098  0.0 (" in row and row.endswith("n = 12), p = 1")
    assert not blank and sentence.endswith("it moved, and no change is shown on its controls")
    assert sentence.startswith("own, base to ppo: from 0 to 100 %")


def test_the_second_act_shows_the_oracle_beside_what_is_maximised() -> None:
    measure = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 96, "stderr": 0.05}
    points = [{"at": at, "kl": 0.1 * at, "proxy": measure, "gold": measure} for at in (0, 2)]
    found = {"series": [{"points": points}], "settings": {"kl_coef": 0.02}, "said": ["ship iteration 2"]}
    title, head, *rows = _too_far(found).splitlines()[:4]
    assert title == "PPO driven too far (kl_coef 0.02)"
    assert head.split("  ")[0] == "iteration" and "good replies by the oracle" in head
    assert rows[-1].split()[:3] == ["2", "0.20", "0.50"]
    assert _too_far(found).endswith("ship iteration 2")


def test_the_second_act_needs_the_oracle() -> None:
    done = CliRunner().invoke(demo, ["--real", "--overoptimise"])
    assert isinstance(done.exception, UsageError) and "leave out --real" in str(done.exception)


def test_sft_and_ppo_mix_in_the_same_everyday_replies_unless_told_otherwise(tmp_path) -> None:
    config = demo_config("pocket/harmless", tmp_path / "run", None)
    helpful = str(tmp_path / "run" / "helpful.jsonl")
    assert (config.train.sft.mix_data, config.train.ppo.ptx_data) == (helpful, helpful)
    assert 0 < config.export.sft_share < 0.2 and config.train.ppo.ptx_coef > 0
    without = demo_config("pocket/harmless", tmp_path / "run", 3, ["train.sft.mix_data=null"])
    assert without.train.sft.mix_data is None and without.seed == 3
    # The prompts of training, of everyday replies and of measuring are of three kinds and share no text.
    held_out = {prompt.text for prompt in held_out_prompts(0)}
    assert len(held_out) == 1000
    assert not held_out & {prompt.messages[-1].content for prompt in training_prompts(0)}


def test_everyday_replies_are_written_as_they_came() -> None:
    prompt = training_prompts(0, 1)[0]
    said = Response(id=f"{prompt.id}/0", prompt=prompt, sample=0, response="Sure.")
    rows = [
        Outcome(row_id=prompt.id, position=0, status="ok", data=said.model_dump(mode="json")),
        Outcome(row_id="p", position=1, status="failed", reason="cut"),
    ]
    (line,) = conversations(rows).splitlines()
    asked = {"role": "user", "content": prompt.messages[-1].content}
    assert json.loads(line)["messages"] == [asked, {"role": "assistant", "content": "Sure."}]
