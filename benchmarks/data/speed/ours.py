"""Our sides and the plain ones: `python -m benchmarks.data.speed.ours WORK.json inside|served`.

`inside` holds an engine: `ours` and `ceiling`, which is `LLM.generate` over what `ours` recorded. `served`
reaches a server: `ours_http`, and `client`, which posts the recorded bodies with aiohttp and reads no more
than JSON. Both plain sides know every request beforehand.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.data.speed import worker
from benchmarks.data.speed.work import Workload, load, read_rows, run_config
from benchmarks.pipeline import record_into, stop_recording
from constitute.config import RunConfig
from constitute.engines import open_engine
from constitute.pipeline import run_stages
from constitute.progress import Silent
from constitute.store import Store

_COMPLETIONS = "/v1/completions"


class First(Silent):
    """Notes when the first row ended the last stage."""

    def __init__(self, last: str) -> None:
        self.last, self.at = last, 0.0

    def advance(self, stage: str, status: str = "ok", **figures: float) -> None:
        if stage == self.last and not self.at:
            self.at = time.perf_counter()


def ours(work: Workload, config: RunConfig, rows: Sequence[Any], engine: Any) -> dict[str, Any]:
    """One run in a fresh directory; tokens are counted from the stored answers after the time is taken."""
    with tempfile.TemporaryDirectory(prefix="constitute-speed-") as folder:
        first, start = First(work.last), time.perf_counter()
        given: dict[str, Any] = {"prompts" if work.kind == "a" else "pairs": rows}
        here = config.model_copy(update={"run": Path(folder)})
        counts = run_stages(here, work.chain, engine=engine, progress=first, **given)
        seconds = time.perf_counter() - start
        ended = counts[work.last]
        lost = sum(counts[stage].failed + counts[stage].abstain for stage in work.chain)
        answered = {"rows": ended.ok, "without": lost, "requests": sum(c.asked for c in counts.values())}
        return answered | {"seconds": seconds, "first_s": first.at - start} | _tokens(folder)


def _tokens(folder: str) -> dict[str, int]:
    """Tokens written, from the answers of a run; a choice has none of its own."""
    with Store.open(folder, readonly=True) as store:
        query = "SELECT sum(json_array_length(answer, '$.token_ids')) FROM answers"
        return {"tokens": store._connection.execute(query).fetchone()[0] or 0}


def ceiling(engine: Any, recorded: Sequence[tuple[list[int], Any]], rows: int) -> dict[str, Any]:
    """The recorded requests given to vLLM at once."""
    start = time.perf_counter()
    outputs = engine._llm.generate(
        [{"prompt_token_ids": prompt} for prompt, _ in recorded],
        [params for _, params in recorded],
        use_tqdm=False,
    )
    seconds = time.perf_counter() - start
    tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
    prompts = sum(len(prompt) for prompt, _ in recorded)
    return {
        "rows": rows,
        "seconds": seconds,
        "tokens": tokens,
        "requests": len(outputs),
        "prompt_tokens": prompts,
    }


def inside(work: Workload) -> dict[str, worker.Side]:
    """The sides that share an engine in this process."""
    config, rows = run_config(work, served=False), read_rows(work)
    engine: Any = open_engine(work.model, config.engine)
    recorded: list[tuple[list[int], Any]] = []
    record_into(engine, recorded)
    found = ours(work, config, rows, engine)
    stop_recording(engine)
    sampled = work.kind == "a"

    def cold(side: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        engine._llm.reset_prefix_cache()
        answer = side()
        # A choice is one token of the model's, which is read and not kept.
        return answer if sampled else answer | {"tokens": answer["requests"]}

    replay = partial(ceiling, engine, recorded, found["rows"])
    return {
        "ours": lambda: cold(partial(ours, work, config, rows, engine)),
        "ceiling": lambda: cold(replay),
    }


def served(work: Workload) -> dict[str, worker.Side]:
    """The sides that share a server; the recorded bodies are kept in the folder for vLLM's own client."""
    config, rows = run_config(work, served=True), read_rows(work)
    engine: Any = open_engine(work.url, config.engine)
    bodies: list[dict[str, Any]] = []
    post = engine._transport.post

    async def noting(path: str, body: dict[str, Any], *more: Any, **options: Any) -> Any:
        if path != _COMPLETIONS:
            raise RuntimeError(f"a request to {path}: the plain client knows only {_COMPLETIONS}")
        answer = await post(path, body, *more, **options)
        bodies.append({"body": body, "written": answer["usage"]["completion_tokens"]})
        return answer

    engine._transport.post = noting
    found = ours(work, config, rows, engine)
    del engine._transport.post
    recorded = "".join(json.dumps(body) + "\n" for body in bodies)
    (Path(work.folder) / "bodies.jsonl").write_text(recorded, encoding="utf-8")

    def client() -> dict[str, Any]:
        return asyncio.run(_client(work, bodies)) | {"rows": found["rows"]}

    return {"ours_http": partial(ours, work, config, rows, engine), "client": client}


async def _client(work: Workload, bodies: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Post every body, as many at once as our side has in flight."""
    import aiohttp

    jobs = iter(bodies)
    tokens = 0

    async def one(session: Any) -> None:
        nonlocal tokens
        for body in jobs:
            async with session.post(work.url + _COMPLETIONS, json=body["body"]) as answer:
                found = await answer.json()
                tokens += found["usage"]["completion_tokens"]

    start = time.perf_counter()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
        for _ in range(work.in_flight):
            group.create_task(one(session))
    return {"seconds": time.perf_counter() - start, "tokens": tokens, "requests": len(bodies)}


if __name__ == "__main__":
    given = load(sys.argv[1])
    worker.serve(inside(given) if sys.argv[2] == "inside" else served(given))
