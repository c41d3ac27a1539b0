"""vLLM asleep while a trainer works: the order of the calls, on what refuses any other order."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
import torch

from constitute.config import EngineConfig
from constitute.engines.base import ModelIdentity
from constitute.engines.swap import rest
from constitute.engines.vllm.engine import VLLMEngine
from constitute.engines.vllm.sleep import ON_A_CPU, Sleeper, beside_a_trainer, decide
from constitute.errors import EngineError, UsageError
from constitute.types import Message, Request, SamplingParams


class FakeLLM:
    """vLLM's `LLM` at sleep level 2: it refuses what the real one would do with memory that holds nothing.

    `told` are the calls in their order; `held` is what has memory, and `filled` whether the weights in it
    were loaded since.
    """

    def __init__(self) -> None:
        self.told: list[str] = []
        self.held = {"weights", "kv_cache"}
        self.filled = True
        parallel = SimpleNamespace(world_size=1)
        self.llm_engine = SimpleNamespace(
            model_config=SimpleNamespace(dtype=torch.float32, max_model_len=64),
            vllm_config=SimpleNamespace(parallel_config=parallel),
            add_request=self.add_request,
            step=list,
            has_unfinished_requests=lambda: False,
        )

    def sleep(self, level):
        assert level == 2, "level 1 keeps a copy of weights that are replaced anyway"
        assert self.held == {"weights", "kv_cache"}, "asleep already"
        self.told.append("sleep")
        self.held, self.filled = set(), False

    def wake_up(self, tags):
        assert not self.held & set(tags), f"{tags} were not asleep"
        assert "kv_cache" not in tags or self.filled, "the cache takes memory that the push still needs"
        self.told.append(f"wake {' '.join(tags)}")
        self.held |= set(tags)

    def collective_rpc(self, name, args):
        assert "weights" in self.held, "weights are pushed into memory that is not there"
        self.told.append(name)
        self.loaded = dict(args[0])
        self.filled = True

    def reset_prefix_cache(self):
        assert "kv_cache" in self.held, "there is no cache"
        self.told.append("reset")
        return True

    def add_request(self, number, prompt, params):
        assert self.held == {"weights", "kv_cache"} and self.filled, "asked while asleep"
        self.told.append("ask")


@pytest.fixture
def llm():
    return FakeLLM()


def engine_on(llm, stays_awake=""):
    from constitute.engines.vllm.loop import StepLoop

    engine = object.__new__(VLLMEngine)
    engine._llm, engine._sleeper, engine._loop = llm, Sleeper(llm, stays_awake), StepLoop(llm.llm_engine)
    engine._identity = ModelIdentity(engine="vllm", name="m", fingerprint="old")
    engine._limit, engine._stops, engine._folder = 64, (), None
    engine._threads = 1
    return engine


def weights():
    yield "w", torch.tensor([3.0])


CYCLE = ["sleep", "wake weights", "sync_weights", "wake kv_cache", "reset"]


def test_weights_wake_before_the_push_and_the_cache_after_it(llm):
    engine = engine_on(llm)
    assert engine.stays_awake == ""
    for number in range(2):
        assert engine.sleep() and rest(engine)
        engine.update_weights(weights(), fingerprint=f"new {number}")
    assert llm.told == CYCLE * 2 and llm.loaded["w"].item() == 3.0
    assert engine.identity.fingerprint == "new 1"
    # Awake, a push is what it was.
    engine.update_weights(weights(), fingerprint="again")
    assert llm.told == [*CYCLE * 2, "sync_weights", "reset"]


def test_nothing_is_asked_of_weights_that_hold_nothing(llm):
    engine = engine_on(llm)
    engine._renderer = SimpleNamespace(ids=lambda request: (1, 2), sampling=lambda request: SamplingParams())
    request = Request(messages=(Message(role="user", content="x"),))
    engine.sleep()
    for ask in (
        lambda: engine.generate_ids([[1]], SamplingParams(max_tokens=1), logprobs=False),
        lambda: engine.score_ids([[1]], [[2]]),
        lambda: asyncio.run(engine.generate(request)),
        lambda: asyncio.run(engine.choose(request, ["A"])),
        lambda: asyncio.run(engine.score(request, "A")),
    ):
        with pytest.raises(EngineError, match="put to sleep for a training step and got no new weights"):
            ask()
    assert llm.told == ["sleep"]


def test_a_push_that_fails_leaves_it_asleep_until_one_succeeds(llm):
    engine = engine_on(llm)
    engine.sleep()

    def broken():
        yield "w", torch.tensor([1.0])
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        engine.update_weights(broken(), fingerprint="new")
    assert llm.told == ["sleep", "wake weights", "sync_weights"] and engine.identity.fingerprint == "old"
    with pytest.raises(EngineError, match="put to sleep"):
        engine.score_ids([[1]], [[2]])
    llm.filled = False
    engine.update_weights(weights(), fingerprint="new")
    assert llm.told[3:] == ["sync_weights", "wake kv_cache", "reset"]


def test_it_does_not_fall_asleep_over_requests(llm):
    engine = engine_on(llm)
    engine._loop = SimpleNamespace(pending=2)
    with pytest.raises(RuntimeError, match="2 requests are in flight"):
        engine.sleep()
    assert not llm.told


def test_an_engine_that_stays_awake_says_why_and_does_nothing(llm):
    engine = engine_on(llm, ON_A_CPU)
    assert not rest(engine) and not rest(object())
    engine.update_weights(weights(), fingerprint="new")
    assert llm.told == ["sync_weights", "reset"] and engine.stays_awake == ON_A_CPU


def test_on_a_cpu_it_is_off_by_itself_and_refused_where_asked_for():
    platforms = pytest.importorskip("vllm.platforms")
    if not platforms.current_platform.is_cpu():
        pytest.skip("vLLM runs on a GPU here")
    assert decide(None) == ON_A_CPU and decide(False) == "engine.sleep is false"
    assert beside_a_trainer(None) is None and beside_a_trainer(False) is False
    with pytest.raises(UsageError, match=r"engine\.sleep is true, but vLLM can only give back .* GPU.*false"):
        decide(True)
    assert EngineConfig().sleep is None
