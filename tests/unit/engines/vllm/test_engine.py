"""What is said where vLLM refuses a model, and what follows from its answers; vLLM itself is not needed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

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


def test_prefixes_of_old_weights_that_cannot_be_dropped_end_the_run():
    """vLLM says whether it dropped them; answers from them would be half another model's."""
    done = []
    engine = object.__new__(VLLMEngine)
    engine._loop = SimpleNamespace(pending=0)
    engine._identity = ModelIdentity(engine="vllm", name="m", fingerprint="old")
    engine._llm = SimpleNamespace(
        collective_rpc=lambda name, args: done.append(name), reset_prefix_cache=lambda: done.append("reset")
    )
    with pytest.raises(EngineError, match="vLLM keeps prefixes computed with the old weights"):
        engine.update_weights(iter(()), fingerprint="new")
    assert done == ["sync_weights", "reset"] and engine.identity.fingerprint == "old"
    engine._llm.reset_prefix_cache = lambda: True
    engine.update_weights(iter(()), fingerprint="new")
    assert engine.identity.fingerprint == "new"
