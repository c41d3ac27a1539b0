"""What is said where vLLM refuses a model, and what follows from its answers; vLLM itself is not needed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from constitute.engines.base import ModelIdentity
from constitute.engines.vllm.engine import VLLMEngine
from constitute.engines.vllm.sleep import Sleeper
from constitute.engines.vllm.start import our_words
from constitute.errors import EngineError

REASON = (
    "User-specified max_model_len (2048) is greater than the derived max_model_len "
    "(max_position_embeddings=512.0 or model_max_length=None in model's config.json). To allow overriding "
    "this maximum, set the env var VLLM_ALLOW_LONG_MAX_MODEL_LEN=1. It must be used with caution."
)


def test_a_context_too_long_is_told_in_our_settings():
    assert our_words(REASON) == (
        "User-specified max_model_len (2048) is greater than the derived max_model_len "
        "(max_position_embeddings=512.0 or model_max_length=None in model's config.json); "
        "lower engine.context_length, or leave it out for the model's own"
    )
    assert our_words("no such architecture") == "no such architecture"


def started(workers):
    """What of vLLM says its dtype, and in how many processes it runs."""
    parallel = SimpleNamespace(world_size=workers)
    return SimpleNamespace(
        model_config=SimpleNamespace(dtype=torch.bfloat16),
        vllm_config=SimpleNamespace(parallel_config=parallel),
    )


def engine_on(llm):
    """An engine around what stands for vLLM's `LLM`."""
    engine = object.__new__(VLLMEngine)
    engine._loop = SimpleNamespace(pending=0)
    engine._identity = ModelIdentity(engine="vllm", name="m", fingerprint="old")
    engine._llm, engine._sleeper = llm, Sleeper(llm, "it cannot")
    engine._threads = 1
    engine._folder = None
    return engine


def named_in_one_place(made):
    weight = torch.tensor([1.0])
    for value in (1.0, 2.0, 3.0):
        # The caller writes the next tensor into the place of the last.
        weight.fill_(value)
        made.append(value)
        yield f"w{value:.0f}", weight


def test_weights_go_over_one_by_one_as_copies_in_the_engine_s_dtype():
    def load(name, args):
        (copies,) = args
        assert name == "sync_weights" and not made
        took.extend(copies)

    took, made = [], []
    llm = SimpleNamespace(collective_rpc=load, reset_prefix_cache=lambda: True, llm_engine=started(workers=1))
    engine_on(llm).update_weights(named_in_one_place(made), fingerprint="new")
    assert [(name, tensor.item(), tensor.dtype) for name, tensor in took] == [
        ("w1", 1.0, torch.bfloat16),
        ("w2", 2.0, torch.bfloat16),
        ("w3", 3.0, torch.bfloat16),
    ]


def test_workers_in_other_processes_read_the_weights_from_a_folder(tmp_path):
    """They would be pickled to each worker otherwise."""
    from safetensors.torch import load_file

    def load(name, args):
        assert name == "sync_folder"
        took.append(load_file(Path(args[0]) / "model.safetensors"))
        return answers

    took = []
    answers = [{"tensors": 3}, {"tensors": 3}]
    llm = SimpleNamespace(collective_rpc=load, reset_prefix_cache=lambda: True, llm_engine=started(workers=2))
    engine = engine_on(llm)
    engine._folder = str(tmp_path)
    engine.update_weights(named_in_one_place([]), fingerprint="new")
    (found,) = took
    assert {name: (tensor.item(), tensor.dtype) for name, tensor in found.items()} == {
        "w1": (1.0, torch.bfloat16),
        "w2": (2.0, torch.bfloat16),
        "w3": (3.0, torch.bfloat16),
    }
    assert not list(tmp_path.iterdir())
    answers[1] = {"error": "load", "why": "OSError: gone"}
    with pytest.raises(EngineError, match=r"loaded 0 of 3 new tensors \(OSError: gone\)"):
        engine.update_weights(named_in_one_place([]), fingerprint="newer")
    assert engine.identity.fingerprint == "new"


def test_prefixes_of_old_weights_that_cannot_be_dropped_end_the_run():
    """vLLM says whether it dropped them; answers from them would be half another model's."""
    done = []
    llm = SimpleNamespace(
        collective_rpc=lambda name, args: done.append(name),
        reset_prefix_cache=lambda: done.append("reset"),
        llm_engine=started(workers=1),
    )
    engine = engine_on(llm)
    with pytest.raises(EngineError, match="vLLM keeps prefixes computed with the old weights"):
        engine.update_weights(iter(()), fingerprint="new")
    assert done == ["sync_weights", "reset"] and engine.identity.fingerprint == "old"
    llm.reset_prefix_cache = lambda: True
    engine.update_weights(iter(()), fingerprint="new")
    assert engine.identity.fingerprint == "new"
