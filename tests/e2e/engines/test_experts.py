"""A mixture of experts in both engines that take weights: fused in memory, an expert a tensor on disk."""

from __future__ import annotations

import asyncio
import gc
from importlib.util import find_spec

import pytest
from tiny_models import random_experts

from constitute.config import EngineConfig
from constitute.engines import open_engine
from constitute.engines.swap import load_folder
from constitute.errors import UsageError

torch = pytest.importorskip("torch")
PROMPTS, COMPLETIONS = [[5, 6, 7, 8], [9, 10]], [[11, 12, 13, 14], [15, 16, 17]]


@pytest.fixture(scope="module")
def experts(tmp_path_factory):
    return random_experts(tmp_path_factory.mktemp("experts"))


def loaded(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def check_pushes(engine, folder):
    """Push identical weights, others, and those of the folder; each time the engine holds them exactly."""
    from constitute.train.common.models import Actor
    from constitute.train.ppo.probe import Probe, measure
    from constitute.train.ppo.sync import named_weights

    model = loaded(folder)
    probe = Probe(PROMPTS, COMPLETIONS, pad_id=0, token_budget=4096)

    def gap(actor):
        return measure(engine, actor, probe).gap.max

    assert gap(Actor(model)) < 1e-4
    engine.update_weights(named_weights(model))
    assert gap(Actor(model)) < 1e-4
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "experts" in name:
                weight.add_(0.5 * weight.std() * torch.randn_like(weight))
    assert gap(Actor(model)) > 1e-2
    engine.update_weights(named_weights(model))
    assert gap(Actor(model)) < 1e-4
    load_folder(engine, str(folder))
    assert gap(Actor(loaded(folder))) < 1e-4


def test_transformers_takes_the_weights_of_experts(experts):
    engine = open_engine(str(experts), EngineConfig(kind="transformers"))
    check_pushes(engine, experts)
    asyncio.run(engine.close())


@pytest.mark.long
@pytest.mark.vllm
def test_vllm_takes_the_weights_of_experts(experts):
    """Long, for it needs an engine of its own; the check after each push guards every run."""
    if find_spec("vllm") is None:
        pytest.skip("vLLM is not installed")
    engine = open_engine(str(experts), EngineConfig(kind="vllm", kv_cache_gib=0.25))
    check_pushes(engine, experts)
    asyncio.run(engine.close())
    gc.collect()


def test_adapters_on_experts_are_refused(experts):
    from constitute.train.common import lora

    with pytest.raises(UsageError, match="mixture of experts, and adapters on experts cannot be merged"):
        lora.add_adapter(loaded(experts), lora.POLICY, 4)


def test_weights_are_pushed_by_the_names_of_the_checkpoint(experts):
    from safetensors import safe_open

    from constitute.train.ppo.sync import named_weights

    with safe_open(experts / "model.safetensors", "pt") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    named = dict(named_weights(loaded(experts)))
    assert set(named) == set(stored)
    assert all(torch.equal(named[name], tensor) for name, tensor in stored.items())
