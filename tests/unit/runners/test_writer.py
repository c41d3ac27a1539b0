"""The one writer of a run on a cluster: whom it lets in, what it commits, limits of all workers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from scripted import ScriptedEngine, constitution

from constitute.config import load_config
from constitute.constitution.write import to_yaml
from constitute.engines.base import ModelIdentity
from constitute.errors import EngineError, LimitReached, RunMismatch
from constitute.pipeline.budget import SPENT, Limits, Spent
from constitute.runners.ray.writer import Writer
from constitute.store import Store

MODEL = ScriptedEngine().identity
ONE = Spent(requests=1)
ENDED = ("INSERT INTO outcomes VALUES ('generate', 'p/0', 0, 'failed', 'x', NULL, 'h')", ())


async def opened(folder: Path, limits: Limits | None = None) -> Writer:
    (folder / "c.yaml").write_text(to_yaml(constitution()))
    sets = [f"constitution={folder / 'c.yaml'}", f"run={folder / 'run'}", "generate.n=2", "model=m"]
    writer = Writer(load_config(None, sets), 3, None)
    assert await writer.open(limits or Limits()) == {"generate": 0, "revise": 0, "label": 0}
    return writer


async def test_workers_of_different_models_are_refused(tmp_path: Path) -> None:
    writer = await opened(tmp_path)
    await writer.register("a", MODEL, None)
    await writer.register("b", MODEL, None)
    with pytest.raises(RunMismatch, match="two workers hold different models"):
        await writer.register("c", ModelIdentity(engine="scripted", name="other"), None)
    await writer.close(False)
    with Store.open(tmp_path / "run", readonly=True) as store:
        assert store.meta("stage:generate")["model"]["name"] == "scripted"
        assert store.meta("unfinished:generate") == {"rows": 6}


async def test_a_worker_that_only_dies_stops_the_run(tmp_path: Path) -> None:
    writer = await opened(tmp_path)
    for _ in range(3):
        await writer.register("a", MODEL, None)
    # A row ended since: the worker gets somewhere.
    await writer.exchange("a", [ENDED], [], [], [("advance", "generate", "failed")])
    for _ in range(3):
        await writer.register("a", MODEL, None)
    with pytest.raises(EngineError, match="died 3 times without ending a row"):
        await writer.register("a", MODEL, None)
    assert await writer.events() == [("advance", "generate", "failed")] and await writer.events() == []
    await writer.close(True)
    with Store.open(tmp_path / "run", readonly=True) as store:
        assert store.counts("generate") == {"ok": 0, "abstain": 0, "failed": 1}
        assert store.meta("unfinished:generate") is False


async def test_a_limit_holds_for_all_workers_and_a_dead_one_gives_back(tmp_path: Path) -> None:
    writer = await opened(tmp_path, Limits(requests=2))
    await writer.register("a", MODEL, None)
    await writer.register("b", MODEL, None)
    await writer.take("a", ONE)
    await writer.take("b", ONE)
    waiting = asyncio.create_task(writer.take("b", ONE))
    await asyncio.sleep(0.01)
    assert not waiting.done(), "two questions are on their way, and two are the limit"
    # Worker a died with its question, which is not known to have been asked.
    await writer.register("a", MODEL, None)
    await asyncio.wait_for(waiting, 1)
    await writer.exchange("b", [], [], [(ONE, ONE), (ONE, ONE)], [])
    with pytest.raises(LimitReached, match="--max-requests 2: the run has asked 2 questions"):
        await writer.take("a", ONE)
    await writer.close(False)
    with Store.open(tmp_path / "run", readonly=True) as store:
        assert store.meta(SPENT)["requests"] == 2


async def test_answers_are_found_after_the_writes_of_the_same_message(tmp_path: Path) -> None:
    writer = await opened(tmp_path)
    put = ("INSERT INTO answers VALUES ('k', 'generate', 'p/0', '{}', '{\"text\":\"yes\"}')", ())
    assert await writer.exchange("a", [put], ["k", "other"], [(ONE, ONE)], []) == {"k": {"text": "yes"}}
    await writer.close(False)
