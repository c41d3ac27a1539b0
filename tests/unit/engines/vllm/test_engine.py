"""What is said where vLLM refuses a model; vLLM itself is not needed."""

from __future__ import annotations

from constitute.engines.vllm.engine import _our_words

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
