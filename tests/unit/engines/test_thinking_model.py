"""A whole engine over a model that is made to think: each token decides the next one."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from unit.engines.test_render_training import TEMPLATES, trl_tokenizer

from constitute.config import EngineConfig
from constitute.types import Message, Request, SamplingParams

pytest.importorskip("trl")
torch = pytest.importorskip("torch")

ASKED = (Message(role="user", content="QQ"),)
# What follows what: a thought after the line break that opens the turn, then an answer and its end.
CHAIN = ("\n", "<think>", "w", "e", "</think>", "Y", "o", "u", "<|im_end|>")


def chained(folder, chain, template="qwen3"):
    """A Llama without attention or layers' effect whose likeliest next token is the chain's."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = trl_tokenizer(TEMPLATES[template])
    tokenizer.eos_token = "<|im_end|>"
    ids = [tokenizer.backend_tokenizer.encode(piece, add_special_tokens=False).ids[0] for piece in chain]
    size = len(tokenizer)
    config = LlamaConfig(
        vocab_size=size, hidden_size=size, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, head_dim=8, max_position_embeddings=256, tie_word_embeddings=False,
        eos_token_id=ids[-1], bos_token_id=None, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.model.norm.weight.fill_(1.0)
        model.model.embed_tokens.weight.copy_(torch.eye(size))
        for token, following in pairwise(ids):
            model.lm_head.weight[following, token] = 1.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def engine(tmp_path):
    from constitute.engines.transformers import TransformersEngine

    return TransformersEngine(str(chained(tmp_path, CHAIN)), EngineConfig(dtype="float32", threads=1))


def greedy(tokens: int, thinking: int = 0, stop: tuple[str, ...] = ()) -> Request:
    sampling = SamplingParams(max_tokens=tokens, temperature=0.0, stop=stop)
    return Request(messages=ASKED, sampling=sampling, thinking=thinking)


@pytest.mark.parametrize(
    ("request_", "reasoning", "text", "finish"),
    [
        (greedy(8, thinking=8, stop=("w", "u")), "we", "Yo", "stop"),
        (greedy(2, thinking=8), "we", "Yo", "length"),
        (greedy(1, thinking=2), "we", "", "length"),
        # With thinking off, what this model thinks all the same is no part of the answer.
        (greedy(8), "we", "You", "stop"),
        (greedy(3), "we", "", "length"),
    ],
)
async def test_a_model_that_thinks(engine, request_, reasoning, text, finish):
    found = await engine.generate(request_)
    assert (found.reasoning, found.text, found.finish_reason) == (reasoning, text, finish)
    assert len(found.token_ids) <= request_.sampling.max_tokens + request_.thinking
    await engine.close()


async def test_a_judge_that_thinks_is_asked_where_its_answer_begins(tmp_path):
    from constitute.engines.transformers import TransformersEngine

    # It says A right after a closed thought and nowhere else.
    folder = chained(tmp_path, ("</think>", "A", "<|im_end|>"), "nemotron_3_nano")
    engine = TransformersEngine(str(folder), EngineConfig(dtype="float32", threads=1))
    choice = await engine.choose(Request(messages=ASKED), ("A", "B"))
    size = len(engine._renderer.tokenizer)
    # The norm of a unit vector makes the likeliest logit sqrt(size), all others 0.
    total = math.exp(math.sqrt(size)) + size - 1
    assert choice.logprobs == pytest.approx(
        (math.sqrt(size) - math.log(total), -math.log(total)), rel=1e-3, abs=1e-5
    )
    assert choice.mass > 0.99
    await engine.close()
