"""The fake engine: deterministic, scripted, and cut like a model's answer."""

from __future__ import annotations

import pytest

from constitute.config import EngineConfig
from constitute.engines import open_engine, resolve_kind, use_engine
from constitute.engines.fake import FakeEngine, Script
from constitute.errors import EngineError, RowError, UsageError
from constitute.progress import Silent
from constitute.types import Message, Request, SamplingParams

CONFIG = EngineConfig(kind="fake")
EXPECTED = (
    "asked calm helps be more then again again plain and safe act keep be keep friend helps calm "
    "then is time reply short read then"
)


def ask(text: str = "How do I cook rice?", **sampling) -> Request:
    return Request(messages=(Message(role="user", content=text),), sampling=SamplingParams(**sampling))


async def test_answers_are_a_pure_function_of_the_request():
    first, second = FakeEngine("fake", CONFIG), open_engine("fake", CONFIG)
    for request in (ask(seed=1), ask(seed=2), ask(temperature=0.0)):
        assert await first.generate(request) == await second.generate(request)
    assert (await first.generate(ask(seed=1))).text == EXPECTED
    assert (await first.choose(ask(), ("A", "B"))).mass == pytest.approx(0.9)


async def test_the_script_fails_rows_and_kills_the_engine():
    engine = FakeEngine("fake", CONFIG, Script(fail_on="poison", die_after=2))
    with pytest.raises(RowError, match="'poison', as scripted"):
        await engine.generate(ask("some poison here"))
    await engine.generate(ask())
    await engine.choose(ask(), ("A", "B"))
    for _ in range(2):
        with pytest.raises(EngineError, match="died after 2 answers"):
            await engine.generate(ask())


@pytest.mark.parametrize(
    ("model", "kind", "expected"),
    [
        ("http://127.0.0.1:1", "auto", "openai"),
        ("pocket", "transformers", "transformers"),
        ("x", "fake", "fake"),
    ],
)
def test_the_kind_follows_the_model_name(model, kind, expected):
    assert resolve_kind(model, kind) == expected


def test_contradictions_between_model_and_kind_are_refused():
    with pytest.raises(UsageError, match="cannot use the server http://h"):
        resolve_kind("http://h", "vllm")
    with pytest.raises(UsageError, match="needs the http"):
        resolve_kind("pocket", "openai")
    with pytest.raises(UsageError, match="no such engine: 'magic'"):
        resolve_kind("pocket", "magic")


class _Closing(FakeEngine):
    closed = 0

    async def close(self) -> None:
        self.closed += 1


async def test_an_engine_opened_for_a_block_is_closed_and_a_given_one_is_left_open(monkeypatch):
    opened = _Closing("fake", CONFIG)
    monkeypatch.setattr("constitute.engines.open_engine", lambda model, config, _: opened)
    async with use_engine("fake", CONFIG, Silent()) as engine:
        assert engine is opened
        assert opened.closed == 0
    assert opened.closed == 1
    with pytest.raises(RowError):
        async with use_engine("fake", CONFIG, Silent()):
            raise RowError("in the block")
    assert opened.closed == 2
    given = _Closing("given", CONFIG)
    async with use_engine(None, CONFIG, Silent(), given) as engine:
        assert engine is given
    assert given.closed == 0


async def test_no_model_and_no_engine_is_one_sentence():
    with pytest.raises(UsageError, match=r"^no model given; name one with --model, such as --model smollm2$"):
        async with use_engine(None, CONFIG, Silent()):
            pass
