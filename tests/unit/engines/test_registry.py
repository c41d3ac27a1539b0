"""What CONTRIBUTING.md says of adding an engine: one module and one line in `ENGINES`."""

from __future__ import annotations

import io

import pytest
from registry_examples import add_module, example

from constitute.config import EngineConfig, load_config
from constitute.engines import ENGINES, check_kind, open_engine, use_engine
from constitute.engines.base import Engine
from constitute.errors import UsageError
from constitute.pipeline import run_stages
from constitute.progress.show import Plain
from constitute.types import Message, Prompt, Request


@pytest.fixture
def parrot(monkeypatch):
    add_module(monkeypatch, "parrot_engine", example("An engine"))
    monkeypatch.setitem(ENGINES, "parrot", "parrot_engine:Parrot")


async def test_a_registered_engine_is_opened_and_answers(parrot):
    engine = open_engine("polly", EngineConfig(kind="parrot"))
    assert isinstance(engine, Engine)
    request = Request(messages=(Message(role="user", content="Hello"),))
    assert (await engine.generate(request)).text == "Hello!"
    out = io.StringIO()
    async with use_engine("http://cage:1", EngineConfig(kind="parrot"), Plain(out)) as used:
        assert out.getvalue() == "opening http://cage:1…\n"
        assert (await used.choose(request, ("A", "B"))).logprobs == (-1.0, -1.0)


def test_a_registered_engine_runs_a_stage(parrot, tmp_path):
    config = load_config(None, ["model=polly", "engine.kind=parrot", f"run={tmp_path / 'run'}"])
    prompts = [Prompt(id="p", messages=(Message(role="user", content="Hello"),))]
    counts = run_stages(config, ["generate"], prompts=prompts)
    assert counts["generate"].ok == 1


def test_an_unknown_kind_is_refused_with_the_nearest_name():
    for kind in ("auto", *ENGINES):
        check_kind(kind)
    with pytest.raises(UsageError, match=r"^no such engine: 'vlm'; did you mean 'vllm'\?$"):
        open_engine("pocket", EngineConfig(kind="vlm"))


@pytest.mark.parametrize(
    ("model", "kind", "said"),
    [
        ("pocket", "vllm", "loading pocket into vLLM (first answers in half a minute, "),
        ("http://h:1", "auto", "asking http://h:1 what it can do…"),
        ("pocket", "transformers", "loading pocket (about ten seconds, a large"),
    ],
)
def test_what_opening_a_model_does_is_said_before_it_is_done(monkeypatch, model, kind, said):
    out = io.StringIO()

    def silent_so_far(module):
        assert out.getvalue().startswith(said)
        raise ImportError(module)

    monkeypatch.setattr("constitute.engines.import_module", silent_so_far)
    with pytest.raises(ImportError, match=r"constitute\.engines"):
        open_engine(model, EngineConfig(kind=kind), Plain(out))
