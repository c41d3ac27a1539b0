"""PPO killed with SIGKILL at random moments, some of them inside a save, ends as if nothing had happened."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from e2e.train.test_gibbs import run

SHORT = {
    "iterations": 60, "batch_size": 16, "epochs": 1, "checkpoint_every": 2, "kl_target": 1.0,
    "kl_horizon": 100,
}  # fmt: skip
CLOCK = ("seconds", "tokens_per_second")


def train(folder):
    run(folder, 0.5, seed=3, **SHORT)


def result(out):
    """The metrics without the clock, and the weights."""
    from safetensors.torch import load_file

    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in CLOCK} for line in lines], load_file(
        out / "model.safetensors"
    )


def same(one, other):
    import torch

    assert one[0] == other[0]
    assert one[1].keys() == other[1].keys()
    assert all(torch.equal(one[1][name], other[1][name]) for name in one[1])


def staging(out):
    """What exists only while a save is under way."""
    found = [*out.glob("checkpoints/.iteration-*"), *out.glob(".saving-*")]
    return {(path.name, path.stat().st_mtime_ns) for path in found}


def written(out):
    path = out / "metrics.jsonl"
    return path.stat().st_size if path.is_file() else 0


def wait_for_moment(out, moment, chance, alive, begin):
    """Return at the moment to kill: while starting, within an iteration, or inside a save."""
    if moment == "start":
        time.sleep(chance.uniform(0, begin))
        return
    # A save cut short before left its folder behind: only one that changes is under way.
    look = staging if moment == "save" else written
    before = look(out)
    while look(out) in (before, set()) or (moment == "iteration" and look(out) < before):
        if not alive():
            return
        before = look(out) if moment == "iteration" else before
        time.sleep(0.0002)
    time.sleep(chance.uniform(0, 0.01 if moment == "save" else 0.05))


def kill_often(start, out, kills, begin, seed=0):
    """Start, wait for a moment, kill; until `kills` were killed. Returns how many died inside a save.

    `start` gives (process id, alive, wait) of a fresh process.
    """
    chance, inside, done = random.Random(seed), 0, 0
    while done < kills:
        pid, alive, wait = start()
        moment = ("save", "iteration", "start")[done % 3]
        wait_for_moment(out, moment, chance, alive, begin)
        assert alive(), f"finished before kill {done + 1}: too few iterations"
        os.kill(pid, signal.SIGKILL)
        assert wait() == -signal.SIGKILL
        done += 1
        inside += bool(staging(out)) and moment == "save"
    return inside


def forked(folder):
    """A fresh process each time, forked from a server that has imported the heavy libraries."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["constitute.train.ppo.run", "transformers.models.llama.modeling_llama", "peft"]
    )

    def start():
        process = context.Process(target=train, args=(folder,))
        process.start()

        def wait():
            process.join()
            return process.exitcode

        return process.pid, process.is_alive, wait

    return start


def check_kills(tmp_path, kills):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    train(whole)
    inside = kill_often(forked(killed), killed / "out", kills, begin=1.0)
    assert inside >= kills // 5, f"only {inside} of {kills} kills fell inside a save"
    train(killed)
    same(result(killed / "out"), result(whole / "out"))
    left = [path.name for path in (killed / "out" / "checkpoints").iterdir()]
    assert not [name for name in left if name.startswith(".")]


def test_three_kills_change_nothing(tmp_path):
    check_kills(tmp_path, 3)


@pytest.mark.long
def test_twenty_kills_change_nothing(tmp_path):
    check_kills(tmp_path, 20)


COMMAND_SETS = (
    "engine.kind=transformers", "train.ppo.iterations=12", "train.ppo.batch_size=4", "train.ppo.epochs=1",
    "train.ppo.max_new_tokens=4", "train.ppo.checkpoint_every=1", "train.ppo.missing_eos_penalty=null",
)  # fmt: skip


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_command_killed_goes_on(tmp_path, tiny_model):
    """The same of `constitute train ppo` itself, which takes seconds to start: six kills."""
    (tmp_path / "rewards_of_the_kill_test.py").write_text(
        "def length(prompts, completions):\n    return [len(set(c.token_ids)) for c in completions]\n"
    )
    rows = [{"id": f"p{number}", "prompt": f"How do I mend {number} kettles?"} for number in range(3)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def command(out):
        words = [sys.executable, "-m", "constitute", "train", "ppo", "--model", str(tiny_model), "--json"]
        words += ["--prompts", "prompts.jsonl", "--reward", "rewards_of_the_kill_test:length", "--out", out]
        words += [word for text in COMMAND_SETS for word in ("--set", text)]
        environment = os.environ | {"PYTHONPATH": str(tmp_path)}
        return subprocess.Popen(
            words, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def start():
        process = command("killed")
        return process.pid, lambda: process.poll() is None, process.wait

    assert command("whole").wait() == 0
    kill_often(start, tmp_path / "killed", 6, begin=8.0)
    assert command("killed").wait() == 0
    same(result(tmp_path / "killed"), result(tmp_path / "whole"))
