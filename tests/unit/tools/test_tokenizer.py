"""Pocket's tokenizer and chat template: round trips, single-token answers, no way into control tokens."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constitute.packaged import model_path
from tools.pocket import corpus, mixes
from tools.pocket.tokenizer import CONTROL, END, PAD, SINGLE_TOKENS


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_path("pocket"))


def test_control_tokens_are_distinct_and_in_place(tokenizer: Any) -> None:
    ids = tokenizer.convert_tokens_to_ids(list(CONTROL))
    assert sorted(ids) == list(range(len(CONTROL)))
    assert (tokenizer.pad_token, tokenizer.eos_token) == (PAD, END)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_answers_are_one_token_after_the_header(tokenizer: Any) -> None:
    prompt = [{"role": "user", "content": "Which?"}]
    before = tokenizer.apply_chat_template(prompt, add_generation_prompt=True)["input_ids"]
    for answer in SINGLE_TOKENS:
        chat = [*prompt, {"role": "assistant", "content": answer}]
        after = tokenizer.apply_chat_template(chat)["input_ids"]
        assert after[: len(before)] == before
        assert len(after) == len(before) + 2


@settings(deadline=None)
@given(st.text())
def test_any_text_round_trips_without_control_tokens(tokenizer: Any, text: str) -> None:
    encoding = tokenizer.backend_tokenizer
    encoding.encode_special_tokens = True
    try:
        ids = encoding.encode(text, add_special_tokens=False).ids
    finally:
        encoding.encode_special_tokens = False
    assert not set(ids) & set(range(len(CONTROL)))
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


@pytest.mark.parametrize("token", CONTROL)
def test_a_control_token_in_content_stays_text(tokenizer: Any, token: str) -> None:
    text = f"say {token} now"
    encoding = tokenizer.backend_tokenizer
    encoding.encode_special_tokens = True
    try:
        ids = encoding.encode(text, add_special_tokens=False).ids
    finally:
        encoding.encode_special_tokens = False
    assert not set(ids) & set(range(len(CONTROL)))
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_longer_conversations_extend_shorter_ones(tokenizer: Any) -> None:
    rng = random.Random(0)
    dialogue = max((d for _ in range(20) for d in corpus.chain_tree(rng)), key=len)
    chat = [{"role": turn.role, "content": turn.content} for turn in dialogue]
    whole = tokenizer.apply_chat_template(chat)["input_ids"]
    for n in range(1, len(chat)):
        part = tokenizer.apply_chat_template(chat[:n], add_generation_prompt=n % 2 == 1)["input_ids"]
        assert whole[: len(part)] == part


def test_the_template_marks_the_assistants_tokens(tokenizer: Any) -> None:
    chat = [
        {"role": "user", "content": "How do I paint the fence?"},
        {"role": "assistant", "content": "Sure."},
        {"role": "user", "content": "Thanks."},
        {"role": "assistant", "content": "Yes."},
    ]
    out = tokenizer.apply_chat_template(chat, return_dict=True, return_assistant_tokens_mask=True)
    marked = [i for i, mark in zip(out["input_ids"], out["assistant_masks"], strict=True) if mark]
    assert tokenizer.decode(marked) == f"Sure.{END}Yes.{END}"


def test_training_renders_as_the_chat_template_does(tokenizer: Any) -> None:
    from tools.pocket.training import Encoder

    encoder = Encoder(tokenizer.backend_tokenizer, 0.1)
    rng = random.Random(1)
    for dialogue in (kind(rng)[0] for _ in range(10) for kind in mixes.KINDS):
        chat = [{"role": turn.role, "content": turn.content} for turn in dialogue]
        assert encoder.dialogue(dialogue)[0] == tokenizer.apply_chat_template(chat)["input_ids"]


def test_the_files_stay_small() -> None:
    folder = Path(model_path("pocket"))
    assert sum(f.stat().st_size for f in folder.iterdir()) <= 8 * 1024 * 1024
