"""Trainings in bfloat16, forced on a CPU: near those in float32, held and saved as they should be."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

CHILD = Path(__file__).with_name("half_child.py")
ADAPTED = ("reward_lora", "dpo_lora", "conditioned_lora", "ppo_lora")
FULL = ("reward_full", "dpo_full", "ppo_full")
TRAINED = (*ADAPTED, *FULL, "sft_lora")
# Of a figure in nats or in units of a score, what eight bits of a number leave after some steps.
NEAR = {"rel": 0.03, "abs": 0.01}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("half")
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "ACCELERATE_USE_CPU": "true",
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_FP16",
    }
    done = subprocess.run(
        [sys.executable, str(CHILD), str(place), *TRAINED, "sharded", "planned"],
        capture_output=True, text=True, timeout=300, env=environment,
    )  # fmt: skip
    if done.returncode == -signal.SIGILL:
        pytest.skip("this CPU dies of products in bfloat16")
    assert done.returncode == 0, done.stderr[-3000:]
    return place


def read(folder, kind, case):
    out = folder / kind / case
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    summary = json.loads((out / "training.json").read_text())["summary"]
    return lines, summary, load_file(out / "model.safetensors")


@pytest.mark.parametrize("case", TRAINED)
def test_steps_are_those_of_float32_within_rounding(folder, case):
    (exact, summary, weights), (half, summary_half, weights_half) = (
        read(folder, kind, case) for kind in ("float32", "bfloat16")
    )
    assert len(exact) == len(half) > 2
    names = ("entropy", "kl", "grad_norm_actor", "value_loss") if case.startswith("ppo") else ("loss",)
    for name in names:
        assert half[0][name] == pytest.approx(exact[0][name], **NEAR), name
        assert half[-1][name] == pytest.approx(exact[-1][name], rel=0.1, abs=0.02), name
    # Not the same numbers: the passes were in bfloat16.
    assert [line[names[0]] for line in half] != [line[names[0]] for line in exact]
    if case.startswith("reward"):
        # Scored in the precision of the steps.
        for name in ("mean", "std"):
            assert summary_half["normalisation"][name] != summary["normalisation"][name]
            assert summary_half["normalisation"][name] == pytest.approx(
                summary["normalisation"][name], rel=0.05, abs=0.02
            )
    assert {tensor.dtype for tensor in weights_half.values()} == {torch.float32}
    assert weights_half.keys() == weights.keys()
    for name, tensor in weights.items():
        assert torch.allclose(tensor, weights_half[name], rtol=0.02, atol=0.02), name


@pytest.mark.parametrize("case", ADAPTED)
def test_a_base_under_adapters_is_held_in_half(folder, case):
    held = json.loads((folder / "bfloat16" / case / "held.json").read_text())
    assert held == {"learns": ["float32"], "frozen": ["bfloat16"]}
    exact = json.loads((folder / "float32" / case / "held.json").read_text())
    assert exact == {"learns": ["float32"], "frozen": ["float32"]}


@pytest.mark.parametrize("case", FULL)
def test_what_learns_stays_in_float32(folder, case):
    assert json.loads((folder / "bfloat16" / case / "held.json").read_text())["learns"] == ["float32"]


def test_a_push_of_adapters_on_half_a_base_is_checked_as_in_float32(folder):
    lines, _, _ = read(folder, "bfloat16", "ppo_lora")
    assert all(line["sync_gap_max"] < 1e-4 for line in lines)


def test_sharded_weights_leave_no_copies_until_the_backward(folder):
    """Without a policy of mixed precision autocast keeps the whole model in bfloat16; with it nothing."""
    found = json.loads((folder / "bfloat16" / "sharded" / "held.json").read_text())
    plain, mixed, adapters = found["plain"], found["mixed"], found["adapters"]
    assert plain["held"] > 0.9 * plain["model"]
    assert mixed["held"] == adapters["held"] == 0
    # Adapters start without effect.
    assert [mixed["mean"], adapters["mean"]] == pytest.approx([plain["mean"]] * 2, rel=0.01)


def test_an_update_under_adapters_takes_what_is_planned(folder):
    found = json.loads((folder / "bfloat16" / "planned" / "held.json").read_text())
    for name, (planned, held) in found.items():
        assert planned == pytest.approx(held, rel=0.10), name
