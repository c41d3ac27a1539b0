"""A run keeps the day it began: past midnight, resume and --reuse ask nothing again."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripted import ScriptedEngine, prompt
from unit.engines.test_render_training import TEMPLATES, trl_tokenizer

from constitute import clock
from constitute.config import EngineConfig, RunConfig, load_config
from constitute.engines import ENGINES
from constitute.engines.base import as_bytes
from constitute.engines.render import Renderer, RenderSettings
from constitute.pipeline import run_stages
from constitute.pipeline.session import dated
from constitute.types import Request

pytest.importorskip("trl")
DAYS = ("2026-03-01", "2026-03-02", "2026-03-03")


class DatedEngine(ScriptedEngine):
    """Answers as scripted to prompts that Llama 3.2's template renders, which writes the day."""

    def __init__(self, model: str, config: EngineConfig) -> None:
        super().__init__(model)
        self._renderer = Renderer(
            trl_tokenizer(TEMPLATES["llama3_2"]), model, settings=RenderSettings.of(config)
        )

    def rendered(self, request: Request) -> bytes:
        return as_bytes(self._renderer.ids(request))


@pytest.fixture
def on(monkeypatch):
    """Set the day; whatever is opened is a `DatedEngine`."""
    monkeypatch.setitem(ENGINES, "dated", f"{__name__}:DatedEngine")
    return lambda day: monkeypatch.setattr(clock, "today", lambda: day)


def config(folder: Path, **changes: object) -> RunConfig:
    settings = {"model": "m", "run": folder, "engine.kind": "dated"}
    return load_config(overrides=settings | changes)


def generate(folder: Path, count: int, **changes: object) -> tuple[int, int]:
    """Run `generate` on `count` prompts; returns (asked, reused)."""
    prompts = [prompt(f"q{number}") for number in range(count)]
    counts = run_stages(config(folder, **changes), ["generate"], prompts=prompts)["generate"]
    return counts.asked, counts.reused


def test_a_run_resumed_after_midnight_asks_only_what_is_new(tmp_path, on):
    on(DAYS[0])
    assert generate(tmp_path / "a", 3) == (3, 0)
    on(DAYS[1])
    assert generate(tmp_path / "a", 5) == (2, 0)
    assert dated(config(tmp_path / "a")).engine.date == DAYS[0]
    assert load_config(tmp_path / "a" / "config.yaml").engine.date == DAYS[0]


def test_a_run_that_uses_another_again_keeps_its_day(tmp_path, on):
    on(DAYS[0])
    generate(tmp_path / "a", 3)
    on(DAYS[2])
    assert generate(tmp_path / "b", 4, reuse=tmp_path / "a") == (1, 3)
    assert dated(config(tmp_path / "b")).engine.date == DAYS[0]
    # A run of its own begins on its own day, and its prompts are others.
    assert generate(tmp_path / "c", 4) == (4, 0)
    assert dated(config(tmp_path / "c")).engine.date == DAYS[2]


def test_a_day_that_is_named_comes_first(tmp_path, on):
    on(DAYS[0])
    named = {"engine.date": DAYS[1]}
    generate(tmp_path / "a", 1, **named)
    assert dated(config(tmp_path / "a")).engine.date == DAYS[1]
    assert dated(config(tmp_path / "a", **{"engine.date": DAYS[2]})).engine.date == DAYS[2]
    assert dated(config(tmp_path / "nowhere")).engine.date is None
