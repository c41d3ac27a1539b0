"""Two gloo processes that share out the weights (FSDP2) train as one process does, and save what it saves."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import free_port
from e2e.train.sharded_child import prepare
from places import ROOT
from tolerance import FIGURE, assert_weights

CHILD = Path(__file__).with_name("sharded_child.py")
EXAMPLES = ROOT / "examples" / "accelerate"
FIGURES = ("reward", "kl", "entropy", "policy_loss", "value_loss", "approx_kl", "grad_norm_actor", "sync_gap")
QUICK = ("reward", "separate", "empty", "scored", "dpo")
MORE = ("minibatches", "shared", "mixed", "lora", "dpo_lora")


def launch(folder, launcher, *cases):
    """Run the cases in one process, or as `accelerate launch` starts two of them."""
    if not (folder / "start").exists():
        prepare(folder)
    words = [sys.executable, str(CHILD), str(folder), *cases]
    if launcher != "one":
        words = [
            sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(EXAMPLES / launcher),
            "--num_processes", "2", "--main_process_port", str(free_port()), *words[1:],
        ]  # fmt: skip
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "ACCELERATE_USE_CPU": "true",
    }
    return subprocess.run(words, capture_output=True, text=True, timeout=300, env=environment)


def trained(folder, launcher, *cases):
    done = launch(folder, launcher, *cases)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def result(folder, case):
    from safetensors.torch import load_file

    out = folder / case / "out"
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return load_file(out / "model.safetensors"), lines


def check_same(one, two, case):
    """Weights, metrics and held-out figures of both are the same but for rounding."""
    (weights, lines), (weights_two, lines_two) = result(one, case), result(two, case)
    assert weights.keys() == weights_two.keys()
    assert_weights((weights_two[name] for name in weights), weights.values(), rate=3e-3, steps=6)
    assert len(lines) == len(lines_two) > 2
    for mine, theirs in zip(lines, lines_two, strict=True):
        for figure in set(mine) & {*FIGURES, "loss"}:
            assert theirs[figure] == pytest.approx(mine[figure], **FIGURE), figure
    records = [json.loads((folder / case / "out" / "training.json").read_text()) for folder in (one, two)]
    held, held_two = (numbers(record["summary"].get("held_out")) for record in records)
    assert held_two == pytest.approx(held, **FIGURE)
    return weights


def numbers(tree):
    """All numbers in nested dicts, in order."""
    if isinstance(tree, dict):
        return [number for branch in tree.values() for number in numbers(branch)]
    return [tree] if isinstance(tree, int | float) else []


def moved(folder, case, weights):
    from safetensors.torch import load_file

    start = load_file(folder / ("tied" if case == "shared" else "start") / "model.safetensors")
    return any(not torch.allclose(start[name], weights[name], atol=1e-3) for name in start if name in weights)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("one"), "one", *QUICK)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("two"), "fsdp2.yaml", *QUICK)


@pytest.mark.parametrize("case", QUICK)
def test_two_sharded_processes_learn_what_one_does(one, two, case):
    assert moved(one, case, check_same(one, two, case))


def test_each_process_holds_its_part_alone_between_steps(one, two):
    whole = json.loads((one / "separate" / "held-0.json").read_text())
    parts = [json.loads((two / "separate" / f"held-{rank}.json").read_text()) for rank in (0, 1)]
    assert whole["moments"] == 2 * whole["weights"]
    for kind, number in whole.items():
        assert sum(part[kind] for part in parts) == number, kind
        # A vocabulary of three divides into two and one.
        assert max(part[kind] for part in parts) < 0.51 * number, kind


def test_what_is_saved_is_a_plain_folder(two):
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    for case in ("separate", "dpo"):
        out = two / case / "out"
        model = AutoModelForCausalLM.from_pretrained(out)
        stored, _ = result(two, case)
        assert all(torch.equal(model.state_dict()[name], weight) for name, weight in stored.items())
        assert json.loads((out / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    AutoModelForSequenceClassification.from_pretrained(two / "reward" / "out")


@pytest.mark.long
@pytest.mark.parametrize("launcher", ["fsdp2.yaml", "fsdp2_grads.yaml"])
def test_every_kind_of_critic_and_loss_is_sharded_alike(tmp_path, launcher):
    cases = MORE if launcher == "fsdp2.yaml" else ("separate", "reward", *MORE)
    folders = [trained(tmp_path / name, name, *cases) for name in ("one", launcher)]
    for case in cases:
        assert moved(folders[0], case, check_same(*folders, case))


def test_launches_that_cannot_be_sharded_are_told_so(monkeypatch):
    from constitute.errors import UsageError
    from constitute.train.common.sharding import launched_sharding
    from constitute.train.common.team import gather_team

    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(UsageError, match=r"not run under DEEPSPEED.*fsdp2\.yaml.*fsdp2_grads\.yaml"):
        gather_team()
    with pytest.raises(UsageError, match="fsdp_version: 2"):
        launched_sharding(torch.device("cpu"))
    monkeypatch.setenv("FSDP_VERSION", "2")
    for name in ("OFFLOAD_PARAMS", "ACTIVATION_CHECKPOINTING", "CPU_RAM_EFFICIENT_LOADING"):
        monkeypatch.setenv(f"FSDP_{name}", "true")
        with pytest.raises(UsageError, match=f"fsdp_{name.lower()}"):
            launched_sharding(torch.device("cpu"))
        monkeypatch.delenv(f"FSDP_{name}")


@pytest.mark.long
def test_a_sharded_run_goes_on_bit_for_bit(tmp_path):
    folder = trained(
        tmp_path, "fsdp2.yaml", "whole", "resumed!", "resumed", "dpo", "dpo_resumed!", "dpo_resumed"
    )
    for whole, resumed in (("whole", "resumed"), ("dpo", "dpo_resumed")):
        (weights, lines), (weights_resumed, lines_resumed) = result(folder, whole), result(folder, resumed)
        assert all(torch.equal(weights[name], weights_resumed[name]) for name in weights)
        for mine, theirs in zip(lines, lines_resumed, strict=True):
            assert all(mine[figure] == theirs[figure] for figure in {*FIGURES, "loss"} & set(mine))


@pytest.mark.long
def test_a_sharded_run_goes_on_in_one_process_and_the_other_way_round(tmp_path):
    one = trained(tmp_path / "one", "one", "whole", "resumed!", "dpo", "dpo_resumed!")
    two = trained(tmp_path / "two", "fsdp2.yaml", "resumed!", "dpo_resumed!")
    for folder, launcher in ((one, "fsdp2.yaml"), (two, "one")):
        assert not (folder / "resumed" / "out" / "training.json").exists()
        trained(folder, launcher, "resumed", "dpo_resumed")
        for whole, resumed in (("whole", "resumed"), ("dpo", "dpo_resumed")):
            expected, found = result(one, whole)[0], result(folder, resumed)[0]
            assert_weights((found[name] for name in expected), expected.values(), rate=3e-3, steps=8)


@pytest.mark.long
def test_a_run_goes_on_over_two_processes_then_one_then_two(tmp_path):
    expected = result(trained(tmp_path / "whole", "one", "thrice"), "thrice")[0]
    folder = tmp_path / "moving"
    checkpoints = folder / "thrice" / "out" / "checkpoints"
    for launcher, saved in (("fsdp2.yaml", "shards"), ("one", "model.safetensors")):
        trained(folder, launcher, "thrice!")
        assert (newest(checkpoints) / saved).exists()
    found = result(trained(folder, "fsdp2.yaml", "thrice"), "thrice")[0]
    assert_weights((found[name] for name in expected), expected.values(), rate=3e-3, steps=12)


def newest(checkpoints):
    return max(checkpoints.glob("iteration-*"))


@pytest.mark.long
def test_a_checkpoint_counts_when_all_parts_are_there_and_so_many_stay(tmp_path):
    """Each process writes its parts; a kill before the last rename leaves the checkpoint before."""
    done = launch(tmp_path, "fsdp2.yaml", "kept?")
    assert done.returncode != 0
    checkpoints = tmp_path / "kept" / "out" / "checkpoints"
    assert [path.name for path in checkpoints.iterdir()].count("iteration-000002") == 1
    assert (checkpoints / ".iteration-000004" / "shards" / ".metadata").is_file()
    written = sorted(path.name for path in (checkpoints / "iteration-000002" / "shards").iterdir())
    assert written == [".metadata", "__0_0.distcp", "__1_0.distcp"]
    trained(tmp_path, "fsdp2.yaml", "kept", "thrice")
    (weights, lines), (expected, expected_lines) = result(tmp_path, "kept"), result(tmp_path, "thrice")
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert all(mine["kl"] == theirs["kl"] for mine, theirs in zip(lines, expected_lines, strict=True))
    left = {path.name for path in checkpoints.iterdir()}
    # The newest two, and the best where that is the oldest; nothing of the killed save.
    assert {"iteration-000004", "iteration-000006"} <= left <= {f"iteration-00000{n}" for n in (2, 4, 6)}


def test_a_sharded_process_that_dies_ends_the_job_and_is_named(tmp_path):
    done = launch(tmp_path, "fsdp2.yaml", "dies")
    assert done.returncode != 0
    assert "process 0 of 2 lost another process in phase 'update'" in done.stderr
    assert "rank      : 1" in done.stderr or "local_rank: 1" in done.stderr
    assert not (tmp_path / "dies" / "out" / "training.json").exists()
