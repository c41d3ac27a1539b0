"""PPO with real vLLM in this process: stopped after an iteration and resumed, it is the unbroken run."""

from __future__ import annotations

import json

import pytest

from constitute.config import load_config
from constitute.engines.swap import load_folder, rest
from constitute.errors import EngineError
from constitute.types import Message, Prompt

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.vllm
CLOCK = ("seconds", "tokens_per_second")


class Stops:
    """vLLM, but for one push of weights that fails; everything else is the engine's own."""

    def __init__(self, engine, push):
        self._engine, self._push = engine, push

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def update_weights(self, named_tensors, *, fingerprint=None):
        if fingerprint.endswith(f"-{self._push}"):
            raise EngineError("stopped")
        self._engine.update_weights(named_tensors, fingerprint=fingerprint)


def length(_, completions):
    return [float(len(one.text)) for one in completions]


def train(folder, model, engine, **changes):
    from constitute.train.ppo.start import run_ppo

    settings = {
        "iterations": 3, "batch_size": 8, "epochs": 2, "max_new_tokens": 12, "learning_rate": 1e-3,
        "checkpoint_every": 1, "save_rollouts": "true",
    }  # fmt: skip
    sets = [f"train.ppo.{name}={value}" for name, value in (settings | changes).items()]
    config = load_config(None, sets, {"run": str(folder)})
    prompts = [
        Prompt(id=f"p{number}", messages=(Message(role="user", content=f"What is {number}?"),))
        for number in range(6)
    ]
    # Each run begins with the policy's weights and an empty prefix cache, as a new process does.
    load_folder(engine, str(model))
    run_ppo(config, prompts, policy=str(model), reward=length, engine=engine)


def left(folder):
    """What a run wrote: its rollouts, its metrics without the clock, its weights."""
    from safetensors.torch import load_file

    out = folder / "ppo"
    rollouts = [path.read_text() for path in sorted((out / "rollouts").glob("iteration-*"))]
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return (
        rollouts,
        [{k: v for k, v in line.items() if k not in CLOCK} for line in lines],
        load_file(out / "model.safetensors"),
    )


@pytest.mark.parametrize("off_by", [0, 1])
def test_a_resumed_run_is_the_unbroken_one_bit_for_bit(vllm_engine, model_folder, tmp_path, off_by):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    try:
        train(whole, model_folder, vllm_engine, off_by=off_by)
        with pytest.raises(EngineError, match="stopped"):
            train(broken, model_folder, Stops(vllm_engine, 3), off_by=off_by)
        assert len((broken / "ppo" / "metrics.jsonl").read_text().splitlines()) == 2
        train(broken, model_folder, vllm_engine, off_by=off_by)
    finally:
        load_folder(vllm_engine, str(model_folder))
    one, other = left(whole), left(broken)
    assert len(one[0]) == 3 and one[0] == other[0]
    assert one[1] == other[1]
    assert all(torch.equal(one[2][name], other[2][name]) for name in one[2])


def test_on_a_cpu_it_stays_awake_says_why_and_goes_on_answering(vllm_engine):
    from vllm.platforms import current_platform

    from constitute.engines.vllm.sleep import ON_A_CPU

    if not current_platform.is_cpu():
        pytest.skip("vLLM runs on a GPU here")
    assert not rest(vllm_engine) and vllm_engine.stays_awake == ON_A_CPU
    assert len(vllm_engine.score_ids([[5, 6]], [[7]])[0]) == 1
