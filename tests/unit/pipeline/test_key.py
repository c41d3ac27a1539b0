"""The cache key: every field an answer depends on changes it, and nothing else does."""

from __future__ import annotations

from typing import Any

import pytest

from constitute.engines.base import ModelIdentity
from constitute.pipeline.question import Question, derive_seed
from constitute.types import SamplingParams

BASE = Question(
    stage="label",
    prompt_sha256="00" * 32,
    model=ModelIdentity(engine="vllm", name="m"),
    sampling=SamplingParams(max_tokens=8, temperature=0.5, top_p=0.9, top_k=3, stop=("x",), seed=1),
    step="compare-ab",
    index=0,
    principle_id="kind",
    principle_sha256="11" * 32,
    labels=("A", "B"),
)
CHANGES: dict[str, Any] = {
    "key_version": 3,
    "stage": "revise",
    "stage_version": 2,
    "prompt_sha256": "01" * 32,
    "model.engine": "openai",
    "model.name": "n",
    "model.revision": "main",
    "model.fingerprint": "f",
    "model.tokenizer_hash": "t",
    "model.template_hash": "c",
    "model.defaults": "d",
    "sampling.max_tokens": 9,
    "sampling.temperature": 0.6,
    "sampling.top_p": 0.8,
    "sampling.top_k": 4,
    "sampling.stop": ("y",),
    "sampling.seed": 2,
    "step": "compare-ba",
    "index": 1,
    "principle_id": "brief",
    "principle_sha256": "12" * 32,
    "labels": ("B", "A"),
    "spelled": True,
    "text_sha256": "22" * 32,
    "thinking": 64,
}


def changed(field: str, value: Any) -> Question:
    outer, _, inner = field.partition(".")
    if inner:
        value = getattr(BASE, outer).model_copy(update={inner: value})
    return BASE.model_copy(update={outer: value})


@pytest.mark.parametrize("field", CHANGES)
def test_each_field_changes_the_key(field: str) -> None:
    assert changed(field, CHANGES[field]).key() != BASE.key()


def test_no_field_is_left_without_a_mutation() -> None:
    fields = {
        f"{name}.{inner}" if hasattr(value, "__pydantic_fields__") else name
        for name, value in BASE
        for inner in (type(value).model_fields if hasattr(value, "__pydantic_fields__") else [""])
    }
    assert fields == set(CHANGES)


def test_the_key_is_the_same_in_every_version_and_process() -> None:
    assert BASE.key() == "0593f8467eda8ccb75d862d14502ee1e40b2197af585b81c7a52a91817109609"
    assert BASE.model_copy().key() == BASE.key()


def test_seeds_are_spread_and_fixed() -> None:
    assert derive_seed(0, "generate", "p/0", "response", 0) == 1497619619
    seeds = {derive_seed(0, "generate", f"p/{n}", "response", 0) for n in range(10_000)}
    assert len(seeds) > 9_995 and all(0 <= seed < 2**31 for seed in seeds)
    assert derive_seed("a", "bc") != derive_seed("ab", "c")
    assert abs(sum(seeds) / len(seeds) / 2**30 - 1) < 0.02
