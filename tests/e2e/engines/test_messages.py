"""A real vLLM server that is given messages, held against the same one given token ids."""

from __future__ import annotations

import math

import pytest

from constitute.config import EngineConfig
from constitute.constitution.read import load_constitution
from constitute.engines.openai import engine as opening
from constitute.engines.openai.engine import OpenAIEngine
from constitute.stages.labels.base import ONE_TOKEN
from constitute.stages.labels.choice import comparison_turn
from constitute.types import Comparison, Message, Prompt, Request, SamplingParams

pytestmark = pytest.mark.vllm
ASKED = Request(
    messages=(Message(role="user", content="Which is better, (A) yes or (B) no? Answer with a letter."),),
    sampling=SamplingParams(max_tokens=12, temperature=0.0, top_k=5),
)  # fmt: skip


@pytest.fixture
async def both(vllm_server_url, monkeypatch):
    by_ids = OpenAIEngine(vllm_server_url, EngineConfig())
    monkeypatch.setattr(opening, "_renderer", lambda server, config: None)
    by_messages = OpenAIEngine(vllm_server_url, EngineConfig())
    yield by_ids, by_messages
    await by_ids.close()
    await by_messages.close()


async def test_messages_and_token_ids_get_the_same_answers(both):
    by_ids, by_messages = both
    assert by_messages.identity.defaults.startswith("messages; max_tokens; temperature any; 20 log-prob")
    assert set(by_messages.lacks) == {"score"} and by_ids.lacks == {} and by_ids.sends_ids
    for prefill in ("", "The answer is"):
        asked = ASKED.model_copy(update={"prefill": prefill})
        exact, said = await by_ids.generate(asked), await by_messages.generate(asked)
        assert (said.text, said.finish_reason) == (exact.text, exact.finish_reason)
        assert said.prompt_tokens == exact.prompt_tokens


async def test_the_likeliest_tokens_say_what_exact_scores_say(both):
    by_ids, by_messages = both
    pair = Comparison(
        id="p",
        prompt=Prompt(id="p", messages=(Message(role="user", content="How do I mend a kettle?"),)),
        a="Ask a smith, and let it cool first.",
        b="Throw it at the wall, you fool.",
    )
    for principle in load_constitution("pocket/harmless").principles[:3]:
        for shown in (pair, pair.swap()):
            asked = Request(messages=comparison_turn(shown, principle), sampling=ONE_TOKEN)
            exact = await by_ids.choose(asked, ("A", "B"), spelled=True)
            read = await by_messages.choose(asked, ("A", "B"), spelled=True)
            for value, bound, label in zip(exact.logprobs, read.logprobs, "AB", strict=True):
                # The list may leave out an unlikely spelling, and bounds an option that it leaves out.
                if label in read.censored:
                    assert math.exp(value) <= 5 * math.exp(bound)
                else:
                    assert math.exp(bound) == pytest.approx(math.exp(value), abs=1e-4)
            assert read.mass == pytest.approx(exact.mass, abs=1e-4)
