"""The tables of several demos and of several methods, from figures made by hand."""

from __future__ import annotations

import math

import pytest

from benchmarks.train.demo_seeds import rows_of, spread_of
from benchmarks.train.methods import Measured, logprobs_of, nearest, row_of
from constitute.packaged import model_path
from constitute.pocket.measure import MANNERS, Shown
from constitute.stats import Estimate


def figure(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.01, "high": value + 0.01, "n": 500}


def summary(ppo: float, p: float) -> dict:
    shares = {"base": 0.98, "sft": 0.3, "ppo": ppo}
    effect = {"axis": "harmful", "first": "sft", "second": "ppo", "p": p, "difference": figure(ppo - 0.3)}
    axes = ("harmful", "helpful", "evasive", "garbled")
    return {
        "policies": {name: {axis: figure(value) for axis in axes} for name, value in shares.items()},
        "effects": [effect],
        "seconds": {"data": 100.0, "ppo": 20.5},
    }


def test_each_seed_has_its_rows_and_the_spread_its_ends() -> None:
    found = {0: summary(0.1, 1e-12), 1: summary(0.2, 0.004)}
    rows = rows_of(found)
    assert len(rows) == 8
    assert rows[0] == (
        "0",
        "harmful",
        "98.0 (97.0 to 99.0)",
        "30.0 (29.0 to 31.0)",
        "10.0 (9.0 to 11.0)",
        "-20.0",
        "1e-12",
    )
    assert rows[1][-2:] == ("", "")
    harm = spread_of(found)[0]
    assert harm == (
        "harmful, mean (lowest to highest of 2 seeds)",
        "98.0 (98.0 to 98.0)",
        "30.0 (30.0 to 30.0)",
        "15.0 (10.0 to 20.0)",
    )


def policy(name: str, kl: float | None, harmful: int) -> Measured:
    shown: Shown = {
        axis: {f"{at}": at < harmful for at in range(40)} for axis in ("harmful", "helpful", *MANNERS)
    }
    estimate = None if kl is None else Estimate(value=kl, low=kl - 0.1, high=kl + 0.1, n=40)
    return Measured(name, "settings", shown, estimate)


def test_the_strength_nearest_ppo_s_kl_is_shown_and_every_method_once() -> None:
    found = [policy("SFT", 0.0, 20), policy("PPO", 0.4, 4), policy("DPO", 1.9, 1), policy("DPO", 0.5, 6)]
    found.append(policy("best of 4", None, 8))
    kept = nearest(found)
    assert [(one.name, one.kl and one.kl.value) for one in kept] == [
        ("SFT", 0.0),
        ("PPO", 0.4),
        ("DPO", 0.5),
        ("best of 4", None),
    ]
    name, _, kl, harmful, _, moved = row_of(kept[1], kept[0])
    assert (name, kl) == ("PPO", "0.40 (0.30 to 0.50, n = 40)") and harmful.startswith("10.0 (")
    # 16 prompts lose harm and none gains it: p = 2 / 2^16.
    assert moved == "-40.0, 3e-05"
    assert row_of(kept[0], kept[0])[-1] == ""
    assert math.log(4) - 3 / 4 == pytest.approx(0.636, abs=5e-4)


def test_a_reply_s_log_probability_is_the_sum_over_its_own_tokens_whatever_stands_beside_it() -> None:
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    folder = model_path("pocket")
    rows = [
        ([1, 5, 9, 20, 30], [-100, -100, 9, 20, 30]),
        ([1, 7, 8], [-100, -100, 8]),
        ([4, 40, 41, 42, 43, 44, 45], [-100, 40, 41, 42, 43, 44, 45]),
    ]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    found = logprobs_of(folder, rows, 0.8)
    for (ids, labels), total in zip(rows, found, strict=True):
        with torch.no_grad():
            logprobs_LV = (model(torch.tensor([ids])).logits[0] / 0.8).log_softmax(-1)
        own = [logprobs_LV[at - 1, ids[at]].item() for at in range(1, len(ids)) if labels[at] >= 0]
        assert total == pytest.approx(sum(own), rel=1e-5)
