"""Ratings from 1 to 10 in one pass an answer, against ten teacher-forced passes, on the transformers engine.

    python -m benchmarks rating [--answers N] [--repeats R] [--model NAME]

Both sides rate the same answers with the same engine, in turn; a request is one row of a forward pass.
`one pass` is what `label.method=rating` and the reward `judge` ask (one question, and another where 10 begins
with 1); `ten passes` scores each rating as a text of its own. CPU seconds are of the whole process.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from constitute.types import Message, Principle, Prompt, Request

_WORDS = "mend the kettle with care and ask a neighbour before the rain comes over the stone bridge"


def main(arguments: Sequence[str]) -> None:
    """Print requests and CPU seconds of both sides, and their ratios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks rating")
    parser.add_argument("--answers", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", default="pocket")
    asyncio.run(_run(parser.parse_args(arguments)))


async def _run(given: Any) -> None:
    from constitute.config import EngineConfig
    from constitute.engines import open_engine
    from constitute.stages.labels.rating import RATINGS

    engine: Any = open_engine(given.model, EngineConfig(kind="transformers"))
    requests = _requests(given.answers)
    rows = 0
    submit = engine._submit

    async def counted(job: Any) -> Any:
        nonlocal rows
        rows += 1
        return await submit(job)

    engine._submit = counted

    async def one(request: Request) -> None:
        await engine.choose(request, RATINGS, spelled=True)

    async def ten(request: Request) -> None:
        await asyncio.gather(*(engine.score(request, rating) for rating in RATINGS))

    async def measured(way: Callable[[Request], Awaitable[None]]) -> tuple[int, float]:
        nonlocal rows
        rows, start = 0, time.process_time()
        await asyncio.gather(*(way(request) for request in requests))
        return rows, time.process_time() - start

    await measured(one)
    ratios = []
    print(f"{given.answers} answers, {given.model}, transformers engine")
    print("repeat  requests one  ten  CPU s one    ten  ratio")
    for repeat in range(1, given.repeats + 1):
        (asked, fast), (before, slow) = await measured(one), await measured(ten)
        ratios.append(slow / fast)
        print(f"{repeat:6}  {asked:12}  {before:4}  {fast:9.2f}  {slow:5.2f}  {slow / fast:5.2f}")
    print(f"median ratio {statistics.median(ratios):.2f} (n = {len(ratios)})")
    await engine.close()


def _requests(count: int) -> list[Request]:
    from constitute.stages.labels.base import ONE_TOKEN
    from constitute.stages.labels.rating import score_turn

    words = _WORDS.split()
    principle = Principle(id="kind", text="Be kind.", critique="c", revise="r", compare="Which is kinder?")
    rows = []
    for place in range(count):
        prompt = Prompt(id=f"p{place}", messages=(Message(role="user", content="How do I mend a kettle?"),))
        answer = " ".join(
            words[(place * 7 + at * (1 + place % 5)) % len(words)] for at in range(20 + place % 30)
        )
        rows.append(Request(messages=score_turn(prompt, answer, principle), sampling=ONE_TOKEN))
    return rows
