"""A server over HTTP whose answers follow from the question, and the runs of every runner against it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web
from mock_openai import MockServer, chat
from scripted import WORDS, prompt

from constitute.config import RunConfig, load_config
from constitute.engines.base import Engine
from constitute.engines.openai.abilities import FIRST_WORDS
from constitute.pipeline import Counts
from constitute.pipeline.budget import Limits
from constitute.pipeline.merge import merge_runs
from constitute.progress import Progress
from constitute.runners import RUNNERS, runner_of
from constitute.store import Store
from constitute.types import Prompt

CONSTITUTION = Path(__file__).parents[1] / "pipeline" / "kill_constitution.yaml"
IN_FLIGHT = 8
SHARDS = 3
# Of 40 prompts, one is refused by the server and of one the labels are undecided.
ODD = {5: "[refused]", 11: "[undecided]"}
PROMPTS = [prompt(f"p{at}", f"Question {at}? {ODD.get(at, '')}") for at in range(40)]


class Answering(MockServer):
    """Counts its questions by their content; `most`, where set, is how many it answers before it hangs."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(port=port)
        self.asked: Counter[str] = Counter()
        self.most: int | None = None
        self.wait_s = 0.0

    async def _answer(self, request: web.Request) -> web.Response:
        payload = await request.json()
        if payload.get("messages") == [{"role": "user", "content": FIRST_WORDS}]:
            return await super()._answer(request)
        text = json.dumps(payload["messages"])
        digest = hashlib.sha256((text + str(payload.get("seed"))).encode()).digest()
        self.asked[digest.hex()] += 1
        await asyncio.sleep(self.wait_s)
        if self.most is not None and self.asked.total() > self.most:
            assert request.transport is not None
            request.transport.close()
            await asyncio.sleep(60)
        if "[refused]" in text:
            said = {"error": {"message": "this prompt is refused", "type": "invalid_request_error"}}
            return web.json_response(said, status=400)
        if payload.get("logprobs"):
            share = 0.1 + 0.8 * digest[0] / 255
            mass = 1e-9 if "[undecided]" in text else 0.9
            tops = {"A": math.log(mass * share), "B": math.log(mass * (1 - share))}
            tops["the"] = math.log(0.95 - mass)
            tops |= {f"w{at}": -12.0 - at for at in range(payload["top_logprobs"] - 3)}
            return web.json_response(chat(max(tops, key=lambda each: tops[each]), "length", tops))
        return web.json_response(chat(" ".join(WORDS[byte % len(WORDS)] for byte in digest[:6])))


def config(url: str, run: Path, *sets: str) -> RunConfig:
    """All stages against the server, with few requests in flight and an impatient engine."""
    own = [f"model={url}", f"run={run}", f"constitution={CONSTITUTION}", "generate.n=2", "label.pairs=both"]
    own += [f"engine.in_flight={IN_FLIGHT}", "engine.retries=0", "engine.timeout_s=20", "engine.revision=one"]
    own += ["runner.ray.actors=2", "runner.ray.prompts=4"]
    return load_config(None, [*own, *sets])


def in_shards(
    config: RunConfig,
    prompts: Sequence[Prompt],
    *,
    progress: Progress,
    limits: Limits | None = None,
    opened: Callable[[], Engine] | None = None,
) -> dict[str, Counts]:
    """As a `Runner`: every shard with the local one, each in a directory of its own, then merged."""
    folders = [Path(f"{config.run}-{at}") for at in range(1, SHARDS + 1)]
    added: dict[str, Counter[str]] = {}
    for at, folder in enumerate(folders, 1):
        own = load_config(None, [f"shard={at}/{SHARDS}"])
        part = config.model_copy(update={"run": folder, "shard": own.shard})
        found = runner_of("local")(part, prompts, progress=progress, limits=limits)
        for stage, counts in found.items():
            added.setdefault(stage, Counter()).update(counts.model_dump(exclude={"stage"}))
    merge_runs(folders, config.run)
    return {stage: Counts(stage=stage, **counts) for stage, counts in added.items()}


# Every runner there is, and shards of the local one.
WAYS: dict[str, Callable[..., dict[str, Counts]]] = {
    **{name: runner_of(name) for name in RUNNERS if name != "ray"},
    "shards": in_shards,
    "ray": lambda *given, **named: runner_of("ray")(*given, **named),
}


def dump(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every byte of rows and answers."""
    with Store.open(folder, readonly=True) as store:
        return {
            "outcomes": store.read("SELECT * FROM outcomes ORDER BY stage, position, row_id"),
            "answers": store.read("SELECT key, request, answer FROM answers ORDER BY key"),
        }


def answered(folder: Path) -> int:
    """Answers on disk, also in the directories of shards."""
    found = [folder, *folder.parent.glob(f"{folder.name}-?")]
    number = 0
    for each in found:
        if (each / "run.sqlite").is_file():
            with Store.open(each, readonly=True) as store:
                number += store.read("SELECT count(*) FROM answers")[0][0]
    return number
