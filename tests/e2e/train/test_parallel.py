"""Two gloo processes train as one does: same weights, no hang without rows, a clear end when one dies."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import free_port
from tolerance import FIGURE, assert_weights
from train_models import tiny_causal, word_tokenizer

CHILD = Path(__file__).with_name("parallel_child.py")
END = 2


TEMPLATE = "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %} </s>{% endif %} {% endfor %}"


def start_in(folder):
    model = tiny_causal(vocab=3, width=32, eos=END)
    model.save_pretrained(folder / "start")
    word_tokenizer(["0", "1", "</s>"], eos="</s>", pad="0", template=TEMPLATE).save_pretrained(
        folder / "start"
    )


def launch(folder, processes, *arguments):
    folder.mkdir(exist_ok=True)
    start_in(folder)
    words = [sys.executable, str(CHILD), str(folder), *arguments]
    if processes > 1:
        # What `accelerate launch --multi_gpu` runs underneath; for CPUs it starts no processes of its own.
        words = [
            sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes),
            "--master_port", str(free_port()), *words[1:],
        ]  # fmt: skip
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "ACCELERATE_USE_CPU": "true",
    }
    return subprocess.run(words, capture_output=True, text=True, timeout=280, env=environment)


def result(folder):
    from safetensors.torch import load_file

    lines = [json.loads(line) for line in (folder / "out" / "metrics.jsonl").read_text().splitlines()]
    return load_file(folder / "out" / "model.safetensors"), lines


# 7 rows make unequal shards; 1 row leaves the second process with none.
@pytest.mark.parametrize("batch", ["7", "1"])
def test_two_processes_learn_what_one_does(tmp_path, batch):
    for processes in (1, 2):
        done = launch(tmp_path / str(processes), processes, batch, "3")
        assert done.returncode == 0, done.stderr[-2000:]
        record = json.loads((tmp_path / str(processes) / "out" / "training.json").read_text())
        assert record["summary"]["processes"] == processes
    one, lines_one = result(tmp_path / "1")
    two, lines_two = result(tmp_path / "2")
    start = tiny_causal(vocab=3, width=32, eos=END).state_dict()
    assert any(not torch.equal(start[name], one[name]) for name in one)
    assert_weights(two.values(), (one[name] for name in two), rate=3e-3, steps=6)
    for mine, theirs in zip(lines_one, lines_two, strict=True):
        for figure in ("reward", "kl", "policy_loss", "value_loss", "approx_kl", "grad_norm_actor"):
            assert mine[figure] == pytest.approx(theirs[figure], **FIGURE), figure


def test_two_processes_train_one_reward_model(tmp_path):
    from safetensors.torch import load_file

    found = {}
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        # Answers of unlike lengths, eleven of them: batches and shares differ in size.
        rows = [
            {"prompt": "0", "chosen": "1 " * (1 + n % 4), "rejected": "0 " * (1 + n % 3), "chosen_prob": 0.9}
            for n in range(11)
        ]
        (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        done = launch(folder, processes, "reward")
        assert done.returncode == 0, done.stderr[-2000:]
        found[processes] = load_file(folder / "out" / "model.safetensors")
        losses = [
            json.loads(line)["loss"] for line in (folder / "out" / "metrics.jsonl").read_text().splitlines()
        ]
        assert losses[0] == pytest.approx(0.69, abs=0.05) and losses[-1] < losses[0]
    assert_weights(found[2].values(), (found[1][name] for name in found[2]), rate=1e-3, steps=6)


def test_a_process_that_dies_ends_the_job_and_is_named(tmp_path):
    done = launch(tmp_path, 2, "8", "3", "die")
    assert done.returncode != 0
    assert "process 0 of 2 lost another process in phase 'update'" in done.stderr
    assert "rank      : 1" in done.stderr or "local_rank: 1" in done.stderr
    assert not (tmp_path / "out" / "training.json").exists()
