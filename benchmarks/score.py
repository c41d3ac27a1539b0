"""Given answers scored by vLLM with the prefix cache skipped, as it does by itself, and read; and choices.

    python -m benchmarks score [--requests N] [--repeats R] [--model NAME] [--words W]

`pairs`: two answers after each conversation, with a principle and without one, as `label.method=likelihood`
asks. `alone`: every conversation once. `choose` asks for A or B after the same conversations. The prefix
cache is empty at the start of each; the ways take turns. `again` counts answers of which a part was in the
cache, so that they were asked once more without it.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from constitute.types import Message, Principle, Request

_WORDS = "mend the kettle with care and ask a neighbour before the rain comes over the stone bridge"
Asked = list[tuple[Request, str]]


def main(arguments: Sequence[str]) -> None:
    """Print requests a second of each way, and how far the two scores lie apart."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks score")
    parser.add_argument("--requests", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--words", type=int, default=60)
    asyncio.run(_run(parser.parse_args(arguments)))


async def _run(given: Any) -> None:
    from constitute.config import EngineConfig
    from constitute.engines import open_engine
    from constitute.engines.vllm.engine import _given, _prompt_logprobs, holds_all

    engine: Any = open_engine(given.model, EngineConfig(kind="vllm"))
    again = 0

    def ids(request: Request, text: str) -> tuple[tuple[int, ...], int]:
        context = engine._renderer.ids(request)
        return context + engine._renderer.label_ids(request, text), len(context)

    async def skipped(request: Request, text: str) -> list[float]:
        whole, start = ids(request, text)
        return _prompt_logprobs(await engine._loop.submit(whole, _given()), whole, start)

    async def read(request: Request, text: str) -> list[float]:
        nonlocal again
        whole, start = ids(request, text)
        output = await engine._loop.submit(whole, _given(cached=True))
        if not holds_all(output, whole, start):
            again += 1
            return await skipped(request, text)
        return _prompt_logprobs(output, whole, start)

    async def choose(request: Request, text: str) -> list[float]:
        return list((await engine.choose(request, ("A", "B"))).logprobs)

    async def measured(
        way: Callable[[Request, str], Awaitable[list[float]]], asked: Asked
    ) -> tuple[list[list[float]], float]:
        engine._llm.reset_prefix_cache()
        start = time.perf_counter()
        found = await asyncio.gather(*(way(*each) for each in asked))
        return found, len(asked) / (time.perf_counter() - start)

    print(f"{given.requests} requests, {given.words} words a conversation, {given.model}, vLLM; requests/s")
    for name, asked in (("pairs", _asked(given, 2)), ("alone", _asked(given, 1))):
        await measured(skipped, asked)
        ratios, apart = [], 0.0
        print(f"{name}: repeat  skipped   read  again  ratio  choose")
        for repeat in range(1, given.repeats + 1):
            again = 0
            one, slow = await measured(skipped, asked)
            two, fast = await measured(read, asked)
            _, chosen = await measured(choose, asked)
            ratios.append(fast / slow)
            apart = max(
                [
                    apart,
                    *(abs(x - y) for a, b in zip(one, two, strict=True) for x, y in zip(a, b, strict=True)),
                ]
            )
            print(f"{'':7}{repeat:6}  {slow:7.0f}  {fast:5.0f}  {again:5}  {fast / slow:5.2f}  {chosen:6.0f}")
        print(f"{name}: median ratio {statistics.median(ratios):.2f}; scores at most {apart:.1e} nats apart")
    await engine.close()


def _asked(given: Any, answers: int) -> Asked:
    """Conversations with and without a principle in turn, each with so many answers."""
    from constitute.stages.labels.likelihood import FOLLOW, asking, instructed

    rng, known = random.Random(0), _WORDS.split()
    kind = Principle(id="kind", text="Be kind.", critique="c", revise="r", compare="Which is kinder?")

    def words(n: int) -> str:
        return " ".join(rng.choice(known) for _ in range(n))

    rows: Asked = []
    while len(rows) < given.requests:
        plain = (Message(role="user", content=words(given.words)),)
        said = [words(20) for _ in range(answers)]
        for messages in (instructed(plain, FOLLOW, kind), plain):
            rows += [(asking(messages), text) for text in said]
    return rows[: given.requests]


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
