"""What is said where vLLM refuses a model, and what follows from its answers; vLLM itself is not needed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from constitute.engines.base import ModelIdentity
from constitute.engines.vllm.engine import VLLMEngine, _our_words
from constitute.errors import EngineError

REASON = (
    "User-specified max_model_len (2048) is greater than the derived max_model_len "
    "(max_position_embeddings=512.0 or model_max_length=None in model's config.json). To allow overriding "
    "this maximum, set the env var VLLM_ALLOW_LONG_MAX_MODEL_LEN=1. It must be used with caution."
)


def test_a_context_too_long_is_told_in_our_settings():
    assert _our_words(REASON) == (
        "User-specified max_model_len (2048) is greater than the derived max_model_len "
        "(max_position_embeddings=512.0 or model_max_length=None in model's config.json); "
        "lower engine.context_length, or leave it out for the model's own"
    )
    assert _our_words("no such architecture") == "no such architecture"


def started(workers):
    """What of vLLM says its dtype, and in how many processes it runs."""
    parallel = SimpleNamespace(world_size=workers)
    return SimpleNamespace(
        model_config=SimpleNamespace(dtype=torch.bfloat16),
        vllm_config=SimpleNamespace(parallel_config=parallel),
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_weights_go_over_one_by_one_as_copies_in_the_engine_s_dtype(workers):
    weight, made = torch.tensor([1.0]), []

    def named():
        for value in (1.0, 2.0, 3.0):
            # The caller writes the next tensor into the place of the last.
            weight.fill_(value)
            made.append(value)
            yield f"w{value:.0f}", weight

    def load(name, args):
        (copies,) = args
        # To workers in other processes all are sent at once.
        assert len(made) == (0 if workers == 1 else 3)
        took.extend(copies)

    took = []
    engine = object.__new__(VLLMEngine)
    engine._loop = SimpleNamespace(pending=0)
    engine._identity = ModelIdentity(engine="vllm", name="m", fingerprint="old")
    engine._llm = SimpleNamespace(
        collective_rpc=load, reset_prefix_cache=lambda: True, llm_engine=started(workers)
    )
    engine.update_weights(named(), fingerprint="new")
    assert [(name, tensor.item(), tensor.dtype) for name, tensor in took] == [
        ("w1", 1.0, torch.bfloat16),
        ("w2", 2.0, torch.bfloat16),
        ("w3", 3.0, torch.bfloat16),
    ]


def test_prefixes_of_old_weights_that_cannot_be_dropped_end_the_run():
    """vLLM says whether it dropped them; answers from them would be half another model's."""
    done = []
    engine = object.__new__(VLLMEngine)
    engine._loop = SimpleNamespace(pending=0)
    engine._identity = ModelIdentity(engine="vllm", name="m", fingerprint="old")
    engine._llm = SimpleNamespace(
        collective_rpc=lambda name, args: done.append(name),
        reset_prefix_cache=lambda: done.append("reset"),
        llm_engine=started(workers=1),
    )
    with pytest.raises(EngineError, match="vLLM keeps prefixes computed with the old weights"):
        engine.update_weights(iter(()), fingerprint="new")
    assert done == ["sync_weights", "reset"] and engine.identity.fingerprint == "old"
    engine._llm.reset_prefix_cache = lambda: True
    engine.update_weights(iter(()), fingerprint="new")
    assert engine.identity.fingerprint == "new"
