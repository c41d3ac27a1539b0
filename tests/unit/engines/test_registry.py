"""Adding an engine is one module and one line in `ENGINES`."""

from __future__ import annotations

import pytest

from constitute.config import EngineConfig, load_config
from constitute.engines import ENGINES, check_kind, open_engine, use_engine
from constitute.engines.base import Engine
from constitute.errors import UsageError
from constitute.pipeline import run_stages
from constitute.types import Message, Prompt, Request

MODULE = '''
from constitute.engines.base import ModelIdentity
from constitute.types import Choice, Completion


class Parrot:
    """Answers with what it was asked."""

    def __init__(self, model, config):
        self.identity = ModelIdentity(engine="parrot", name=model)
        self.context_length = config.context_length
        self.open = True

    def prompt_ids(self, request):
        return None

    def rendered(self, request):
        return request.messages[-1].content.encode()

    async def generate(self, request):
        return Completion(text=request.messages[-1].content + "!")

    async def choose(self, request, labels):
        return Choice(labels=tuple(labels), logprobs=(-1.0,) * len(labels))

    async def close(self):
        self.open = False
'''


@pytest.fixture
def parrot(tmp_path, monkeypatch):
    (tmp_path / "parrot_engine.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(ENGINES, "parrot", "parrot_engine:Parrot")


async def test_a_registered_engine_is_opened_and_answers(parrot):
    engine = open_engine("polly", EngineConfig(kind="parrot"))
    assert isinstance(engine, Engine)
    request = Request(messages=(Message(role="user", content="Hello"),))
    assert (await engine.generate(request)).text == "Hello!"
    async with use_engine("http://cage:1", EngineConfig(kind="parrot")) as used:
        assert (await used.choose(request, ("A", "B"))).logprobs == (-1.0, -1.0)
    assert not used.open


def test_a_registered_engine_runs_a_stage(parrot, tmp_path):
    config = load_config(None, ["model=polly", "engine.kind=parrot", f"run={tmp_path / 'run'}"])
    prompts = [Prompt(id="p", messages=(Message(role="user", content="Hello"),))]
    counts = run_stages(config, ["generate"], prompts=prompts)
    assert counts["generate"].ok == 1


def test_an_unknown_kind_is_refused_with_the_nearest_name():
    for kind in ("auto", *ENGINES):
        check_kind(kind)
    with pytest.raises(
        UsageError, match=r"^no such engine: 'vlm'; known: auto, vllm, .*did you mean 'vllm'\?$"
    ):
        open_engine("pocket", EngineConfig(kind="vlm"))
