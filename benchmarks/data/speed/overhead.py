"""CPU time of our pipeline a request, beside an engine that costs next to nothing.

    python -m benchmarks data.speed.overhead --prompts FILE [--model pocket] [--rows 200] [--repeats 20]

The engine renders as vLLM's does and answers at once with drawn tokens, so what is left is ours: rendering,
keys, the store, the driver. CPU seconds of one process say more than wall seconds on a machine that others
use. No model is loaded.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Mapping, Sequence

from benchmarks.data.speed import work as workload
from benchmarks.data.speed.ours import ours
from benchmarks.data.speed.work import Workload
from constitute.engines.base import Ability, Ids, ModelIdentity, as_bytes
from constitute.engines.choosing import choose_by_ids
from constitute.engines.render import Renderer, RenderSettings
from constitute.engines.tokenizer import load_tokenizer, turn_ends
from constitute.stats import mean_of
from constitute.types import Choice, Completion, Request, Score

_SAID = "I will say some words here about that, and more of the same that you asked of me."


def main(arguments: Sequence[str]) -> None:
    """Print the milliseconds a request for both workloads."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks data.speed.overhead")
    parser.add_argument("--prompts", required=True, help="a file of HH pairs")
    parser.add_argument("--model", choices=tuple(workload.CONSTITUTIONS), default="pocket")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=20)
    given = parser.parse_args(arguments)
    print(f"{'workload':<10}{'rows':>6}{'requests':>10}  CPU ms a request")
    for kind in ("a", "b"):
        with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
            work = Workload.of(kind, given.model, given.rows, folder)
            n = workload.prepare(work, given.prompts)
            asked, each = measure(work, given.repeats)
        print(f"{kind:<10}{n:>6}{asked:>10}  {mean_of(each, 'overhead').text(3)}", flush=True)


def measure(work: Workload, repeats: int) -> tuple[int, list[float]]:
    """(requests of a run, CPU ms a request in each run), after one that is thrown away."""
    config, rows = workload.run_config(work, served=False), workload.read_rows(work)
    engine, each, asked = Instant(work), [], 0
    for repeat in range(repeats + 1):
        start = time.process_time()
        asked = ours(work, config, rows, engine)["requests"]
        if repeat:
            each.append(1000 * (time.process_time() - start) / asked)
    return asked, each


class Instant:
    """Implements `Engine`: answers at once, with up to a dozen tokens or a clear choice."""

    lacks: Mapping[Ability, str] = {}

    def __init__(self, work: Workload) -> None:
        tokenizer = load_tokenizer(work.path)
        ends = turn_ends(work.path, tokenizer)
        settings = RenderSettings.of(workload.run_config(work, served=False).engine)
        self._renderer = Renderer(tokenizer, work.model, ends, settings)
        self._said = tuple(tokenizer.encode(_SAID, add_special_tokens=False))
        self._letters = {tokenizer.encode(each, add_special_tokens=False)[-1] for each in ("A", "B")}
        self._rng = random.Random("instant")
        self.context_length = work.context
        hashes = {name: getattr(self._renderer, name) for name in ("tokenizer_hash", "template_hash")}
        self.identity = ModelIdentity(engine="instant", name=work.model, **hashes)

    def prompt_ids(self, request: Request) -> Ids:
        return self._renderer.ids(request)

    def rendered(self, request: Request) -> bytes:
        return as_bytes(self.prompt_ids(request))

    async def generate(self, request: Request) -> Completion:
        prompt = self.prompt_ids(request)
        await asyncio.sleep(0)
        ids = self._said[self._rng.randrange(8) :]
        text = self._renderer.decode(prompt, ids)
        return self._renderer.completion(
            request, Completion(text=text, token_ids=ids, finish_reason="stop", prompt_tokens=len(prompt))
        )

    async def choose(self, request: Request, labels: Sequence[str], *, spelled: bool = False) -> Choice:
        async def letters(prompt: Ids, tokens: Sequence[int]) -> dict[int, float]:
            await asyncio.sleep(0)
            return {token: -1.0 if token in self._letters else -14.0 for token in tokens}

        limit = self.context_length
        return await choose_by_ids(self._renderer, request, labels, letters, limit=limit, spelled=spelled)

    async def score(self, request: Request, text: str) -> Score:
        raise NotImplementedError("neither workload scores a text")

    async def close(self) -> None:
        pass
