"""What `generate` adds around vLLM on a real model: responses to prompts, against vLLM called by hand.

    python -m benchmarks real.responses [--prompts HH.jsonl.gz] [-n 64] [--tokens 64] [--repeats 4]

Both sides use one engine in one process with a cold prefix cache each time and take turns at going first. The
other side is what one writes by hand: the tokenizer's apply_chat_template, then one LLM.generate over all
prompts, with the same seeds. It stores nothing, checks nothing and cannot go on after a stop.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.pipeline import record_into, stop_recording
from constitute.config import RunConfig, load_config
from constitute.data.prompts import read_prompts
from constitute.engines import open_engine
from constitute.packaged import model_path
from constitute.pipeline import run_stages
from constitute.smollm.demo import PROMPTS
from constitute.stats import mean_of
from constitute.types import Prompt

SETTINGS = {"engine.in_flight": 256, "engine.context_length": 2048, "engine.kv_cache_gib": 2.0}


@dataclass(frozen=True)
class Turn:
    """One side's go: wall and CPU seconds of this process with all its threads, and the ids by prompt."""

    seconds: float
    cpu: float
    answers: dict[tuple[int, ...], tuple[int, ...]]

    @property
    def rate(self) -> float:
        return sum(map(len, self.answers.values())) / self.seconds


def main(arguments: Sequence[str]) -> None:
    """Print each repeat's seconds, CPU seconds and tokens/s, and the ratio with its interval."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks real.responses")
    parser.add_argument("--prompts", default=str(PROMPTS), help="a file of prompts or of HH pairs")
    parser.add_argument("-n", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=4)
    given = parser.parse_args(arguments)
    wanted = {"model": "smollm2", "run": "unused", "generate.max_tokens": given.tokens}
    config = load_config(overrides={**SETTINGS, **wanted, "generate.keep_truncated": True})
    prompts, _ = read_prompts(given.prompts, limit=given.n)
    engine: Any = open_engine("smollm2", config.engine)
    recorded: list[tuple[list[int], Any]] = []
    record_into(engine, recorded)
    ours(engine, config, prompts)  # warm-up, and the seeds for the other side
    stop_recording(engine)
    params = {tuple(prompt): sampling for prompt, sampling in recorded}
    by_hand(engine, prompts, params)
    compare(
        [lambda: ours(engine, config, prompts), lambda: by_hand(engine, prompts, params)],
        len(prompts),
        given.repeats,
    )
    asyncio.run(engine.close())


def compare(sides: Sequence[Callable[[], Turn]], n: int, repeats: int) -> None:
    """Run both sides in turn and print what they took."""
    print(f"{'repeat':>6}" + "".join(f"{head:>11}" for head in _HEADS))
    ratios, work, alike = [], [], []
    for repeat in range(repeats):
        first = repeat % 2
        turns = {place: sides[place]() for place in (first, 1 - first)}
        our, raw = turns[0], turns[1]
        if our.answers.keys() != raw.answers.keys():
            raise RuntimeError("the two sides did not send the same token ids")
        ratios.append(our.rate / raw.rate)
        work.append(our.cpu / raw.cpu)
        alike.append(sum(our.answers[prompt] == raw.answers[prompt] for prompt in raw.answers))
        cells = (our.seconds, raw.seconds, our.cpu, raw.cpu, our.rate, raw.rate)
        print(f"{repeat + 1:>6}" + "".join(f"{cell:>11.1f}" for cell in cells) + f"{ratios[-1]:>11.3f}")
    print(f"{n} prompts, the same token ids on both sides; answers with the same ids: {alike}")
    print(f"tokens/s, ours / by hand: {mean_of(ratios, 'rate').text(3)}")
    print(f"CPU seconds, ours / by hand: {mean_of(work, 'cpu').text(3)}")


_HEADS = ("ours s", "by hand s", "ours CPU", "by hand", "ours tok/s", "by hand", "ratio")


def ours(engine: Any, config: RunConfig, prompts: Sequence[Prompt]) -> Turn:
    """`generate` in a fresh run directory; the ids are read from the engine's own outputs."""
    answers: dict[tuple[int, ...], tuple[int, ...]] = {}
    submit = engine._loop.submit

    async def noting(prompt: Sequence[int], params: Any) -> Any:
        output = await submit(prompt, params)
        answers[tuple(prompt)] = tuple(output.outputs[0].token_ids)
        return output

    engine._loop.submit = noting
    engine._llm.reset_prefix_cache()
    try:
        with tempfile.TemporaryDirectory() as folder:
            wall, cpu = time.perf_counter(), time.process_time()
            here = config.model_copy(update={"run": Path(folder)})
            run_stages(here, ["generate"], prompts=prompts, engine=engine)
            return Turn(time.perf_counter() - wall, time.process_time() - cpu, answers)
    finally:
        engine._loop.submit = submit


def by_hand(engine: Any, prompts: Sequence[Prompt], params: dict[tuple[int, ...], Any]) -> Turn:
    """The chat template and one call of vLLM."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(model_path("smollm2"))
    engine._llm.reset_prefix_cache()
    wall, cpu = time.perf_counter(), time.process_time()
    turns = [[message.model_dump(include={"role", "content"}) for message in p.messages] for p in prompts]
    ids = [
        tokenizer.apply_chat_template(each, add_generation_prompt=True, return_dict=False) for each in turns
    ]
    outputs = engine._llm.generate(
        [{"prompt_token_ids": each} for each in ids], [params[tuple(each)] for each in ids], use_tqdm=False
    )
    answers = {
        tuple(each): tuple(output.outputs[0].token_ids) for each, output in zip(ids, outputs, strict=True)
    }
    return Turn(time.perf_counter() - wall, time.process_time() - cpu, answers)
