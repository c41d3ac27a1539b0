"""A model that is opened when it is first asked: an open model's keys, and no load without need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from constitute.config import EngineConfig, LabelConfig, RunConfig
from constitute.editing.trial.run import try_constitution
from constitute.engines import fake, open_engine, open_when_asked
from constitute.engines import transformers as engine_module
from constitute.engines.base import Engine
from constitute.engines.deferred import DeferredEngine
from constitute.errors import EngineError, UsageError
from constitute.types import Constitution, Example, Message, Principle, Request

CONFIG = EngineConfig(kind="transformers")
ASKED = Request(messages=(Message(role="user", content="Is it kind?"),))


async def test_it_is_to_a_cache_what_the_open_model_is_and_opens_once() -> None:
    opened = open_engine("pocket", CONFIG)
    times: list[str] = []

    def opening() -> Engine:
        times.append("opened")
        return opened

    deferred = DeferredEngine("transformers", "pocket", CONFIG, opening)
    assert isinstance(deferred, Engine) and deferred.context_length is None
    assert deferred.identity == opened.identity and deferred.rendered(ASKED) == opened.rendered(ASKED)
    assert deferred.lacks == opened.lacks and times == []
    first = await deferred.choose(ASKED, ("A", "B"))
    assert first == await opened.choose(ASKED, ("A", "B"))
    await deferred.score(ASKED, "yes")
    assert times == ["opened"] and deferred.context_length == opened.context_length
    await deferred.close()


async def test_a_model_that_changed_in_between_is_refused() -> None:
    other = fake.FakeEngine("pocket", EngineConfig(kind="fake"))
    deferred = DeferredEngine("transformers", "pocket", CONFIG, lambda: other)
    with pytest.raises(EngineError, match="the model pocket changed while it was being opened; run the"):
        await deferred.choose(ASKED, ("A", "B"))


def test_only_what_is_slow_to_load_is_deferred() -> None:
    assert isinstance(open_when_asked("x", EngineConfig(kind="fake")), fake.FakeEngine)
    with pytest.raises(UsageError, match="no such model"):
        open_when_asked("./nowhere", CONFIG)


def test_tests_that_the_store_can_answer_load_no_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = Example(prompt="Q?", better="a kind reply", worse="a rude reply")
    written = Constitution(
        name="c",
        principles=(
            Principle(id="a", text="Be kind.", critique="?", revise="!", compare="?", examples=(example,)),
        ),
    )
    config = RunConfig(run=tmp_path / "t", model="pocket", engine=CONFIG, label=LabelConfig(min_mass=0.0))
    loads: list[str] = []
    load = engine_module._load

    def counted(path: str, engine: EngineConfig) -> Any:
        loads.append("load")
        return load(path, engine)

    monkeypatch.setattr(engine_module, "_load", counted)
    first = try_constitution(config, written)
    assert (first.cost.asked, first.cost.cached, loads) == (2, 0, ["load"])
    again = try_constitution(config, written)
    assert (again.cost.asked, again.cost.cached, loads) == (0, 2, ["load"])
    assert [test.p_better for test in again.tests] == [test.p_better for test in first.tests]
    assert again.made_by == first.made_by
