"""A finished run's commands ask nothing, and so load no model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from constitute.cli.main import cli
from constitute.config import EngineConfig, RunConfig
from constitute.engines import ENGINES
from constitute.engines.deferred import DeferredEngine, DeferredRollout
from constitute.engines.fake import FakeEngine
from constitute.engines.swap import load_folder, rollout_engine, sampler_when_asked
from constitute.loop import open_loop, run_loop
from constitute.packaged import model_path
from constitute.types import Completion, Message, Request

CONFIG = EngineConfig(kind="transformers")
ASKED = Request(messages=(Message(role="user", content="Is it kind?"),))


class Twin(FakeEngine):
    """Answers as the fake engine and is to the store what the embedded model is; takes weights."""

    dtype = "float32"

    def __init__(self, model: str, config: EngineConfig) -> None:
        super().__init__(model, config)
        self._identity = DeferredEngine("transformers", model, config, lambda: self).identity
        self.weights: list[str] = []

    @property
    def identity(self) -> Any:
        return self._identity

    def generate_ids(self, prompts: Any, sampling: Any, *, logprobs: bool) -> list[Completion]:
        return [Completion(text=" ".join(self.weights)) for _ in prompts]

    def score_ids(self, prompts: Any, completions: Any) -> list[list[float]]:
        return [[0.0] for _ in prompts]

    def update_weights(self, named_tensors: Any, *, fingerprint: str | None = None) -> None:
        self.weights.append(f"{fingerprint} of {len(list(named_tensors))}")
        self._identity = self._identity.model_copy(update={"fingerprint": fingerprint})


class Loads:
    """An engine that must not be opened."""

    def __init__(self, model: str, config: EngineConfig) -> None:
        raise AssertionError(f"{model} was loaded")


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """The settings of a run whose data stages have ended, with an engine kind that must not be opened."""
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(f'{{"prompt": "Question {at}?"}}\n' for at in range(3)))
    config = RunConfig(
        model="pocket",
        constitution="assistant",
        prompts=str(prompts),
        run=tmp_path / "run",
        engine=CONFIG,
        label={"pairs": "revision"},
    )
    monkeypatch.setitem(ENGINES, "transformers", f"{__name__}:Twin")
    with open_loop(config) as loop:
        run_loop(loop, "export")
    monkeypatch.setitem(ENGINES, "transformers", f"{__name__}:Loads")
    return config


def test_commands_of_a_finished_run_load_no_model(finished: RunConfig) -> None:
    run = str(finished.run)
    for words in (
        ["status"],
        ["report"],
        ["export"],
        ["rows"],
        ["generate"],
        ["revise"],
        ["label"],
    ):
        result = CliRunner().invoke(cli, [*words, "--run", run], standalone_mode=False)
        assert result.exception is None, (words, result.exception)
    with open_loop(finished) as loop:
        found = run_loop(loop, "export")
    assert {stage: (counts["asked"], counts["resumed"]) for stage, counts in found["data"].items()} == {
        "generate": (0, 3),
        "revise": (0, 3),
        "label": (0, 3),
    }


def test_another_prompt_loads_it(finished: RunConfig) -> None:
    with Path(str(finished.prompts)).open("a") as file:
        file.write('{"prompt": "One more?"}\n')
    result = CliRunner().invoke(cli, ["generate", "--run", str(finished.run)], standalone_mode=False)
    assert isinstance(result.exception, AssertionError) and "pocket was loaded" in str(result.exception)


async def test_weights_that_came_before_it_was_open_are_in_it_when_it_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(ENGINES, "transformers", f"{__name__}:Loads")
    engine = rollout_engine(sampler_when_asked("pocket", CONFIG))
    assert isinstance(engine, DeferredRollout)
    began = engine.identity
    load_folder(engine, model_path("pocket"))
    engine.update_weights([("x", 1), ("y", 2)], fingerprint="second")
    assert engine.identity == began.model_copy(update={"fingerprint": "second"})
    with pytest.raises(AssertionError, match="pocket was loaded"):
        await engine.generate(ASKED)
    monkeypatch.setitem(ENGINES, "transformers", f"{__name__}:Twin")
    # The last weights alone: those before them would have been replaced.
    (answer,) = engine.generate_ids([[1]], ASKED.sampling, logprobs=False)
    assert answer.text == "second of 2" and engine.identity.fingerprint == "second"
    engine.update_weights([("x", 1)], fingerprint="third")
    assert engine.dtype == "float32" and engine.identity.fingerprint == "third"
    assert engine.generate_ids([[1]], ASKED.sampling, logprobs=False)[0].text == "second of 2 third of 1"
    await engine.close()
