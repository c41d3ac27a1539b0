"""Labels per second with many principles: one shared beginning a pair, against requests on their own.

    python -m benchmarks labels [--pairs N] [--repeats R] [--larger | --agree]

Every cell labels the same pairs in both orders with the same engine, from a cold prefix cache:
`shared` is the toolkit's layout (the principle after both answers), `paper` the order of arXiv 2212.08073
(the principle before them), `alone` is the shared layout with a cache salt of its own for each request,
so that nothing is computed once for two of them. The cells of a repeat run in turn, K by K.
`--larger` takes a random Llama of 25 M parameters with pocket's tokenizer in pocket's place. `--agree` asks
instead whether the two layouts give the same labels, and the right ones, on pairs that differ on one axis.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from constitute.types import Comparison, Constitution

WAYS = ("shared", "paper", "alone")
COUNTS = (1, 4, 16)


def main(arguments: Sequence[str]) -> None:
    """Print labels/s (a label is one principle's vote on one pair, both orders) and the ratios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks labels")
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--larger", action="store_true")
    parser.add_argument("--agree", action="store_true")
    given = parser.parse_args(arguments)
    from constitute.config import EngineConfig
    from constitute.engines import open_engine

    with tempfile.TemporaryDirectory() as folder:
        model = larger_model(Path(folder)) if given.larger else "pocket"
        engine: Any = open_engine(model, EngineConfig(kind="vllm"))
        if given.agree:
            agree(engine, given.pairs)
        else:
            measure(engine, given.pairs, given.repeats)
        asyncio.run(engine.close())


def measure(engine: Any, n: int, repeats: int) -> None:
    """Run every cell `repeats` times after one that is thrown away, and print the table."""
    pairs, constitution = draw_pairs(n), principles(max(COUNTS))
    tokens = statistics.mean(prompt_tokens(engine, pairs, constitution))
    print(f"{n} pairs, both orders, prompts of {tokens:.0f} tokens on average, {repeats} repeats")
    print(f"{'K':>3} " + "".join(f"{way + ' /s':>12}" for way in WAYS) + f"{'computed':>24}  shared / alone")
    for k in COUNTS:
        some = constitution.model_copy(update={"principles": constitution.principles[:k]})
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        computed: dict[str, float] = {}
        for repeat in range(repeats + 1):
            for way in WAYS:
                took, computed[way] = label_all(engine, pairs, some, way)
                if repeat:
                    seconds[way].append(took)
        ratios = [a / s for a, s in zip(seconds["alone"], seconds["shared"], strict=True)]
        rates = "".join(f"{n * k / statistics.median(seconds[way]):>12.0f}" for way in WAYS)
        shares = " / ".join(f"{computed[way]:.0%}" for way in WAYS)
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"{k:>3} {rates}{shares:>24}  {statistics.median(ratios):.2f} ({spread})", flush=True)


def agree(engine: Any, n: int) -> None:
    """Votes of each pair's own axis in both layouts: how often alike, how often right, how far apart."""
    from benchmarks.editing.inversion import mixed_pairs
    from constitute.config import LabelConfig
    from constitute.editing.votes import vote
    from constitute.pocket import oracle
    from constitute.pocket.replies import AXES
    from constitute.pocket.wordings import draw_principle
    from constitute.stats import wilson
    from constitute.store import Store

    rng = random.Random("layouts")
    every = Constitution(name="five", principles=tuple(draw_principle(rng, axis, False) for axis in AXES))
    pairs, differs = mixed_pairs(n, one_axis=True)
    p: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder, Store.open(folder) as store:
        for layout in ("shared", "paper"):
            cfg = LabelConfig(principles="all", layout=layout)
            labelled = asyncio.run(vote(pairs, every, engine, store, cfg)).labelled
            own = {
                row.id: next(v for v in row.label.votes if {v.principle_id} == differs[row.id])
                for row in labelled
            }
            p[layout] = {name: each.p_a for name, each in own.items()}
    both = [pair for pair in pairs if pair.id in p["shared"] and pair.id in p["paper"]]
    a_wins = {
        pair.id: oracle.violates(oracle.read(pair.prompt.messages[-1].content, pair.b), *differs[pair.id])
        for pair in both
    }
    side = {layout: {name: value > 0.5 for name, value in found.items()} for layout, found in p.items()}

    def line(name: str, hits: list[bool]) -> None:
        low, high = wilson(sum(hits), len(hits))
        share = f"{sum(hits):>5} of {len(hits):<5}{sum(hits) / len(hits):>7.1%}"
        print(f"{name:<34}{share} ({low:.1%} to {high:.1%})")

    line("both layouts prefer the same reply", [side["shared"][x.id] == side["paper"][x.id] for x in both])
    for layout in side:
        line(f"{layout}: right by the oracle", [side[layout][x.id] == a_wins[x.id] for x in both])
    gap = statistics.mean(abs(p["shared"][x.id] - p["paper"][x.id]) for x in both)
    print(
        f"mean |difference of P(A)| {gap:.3f}, {len(pairs) - len(both)} of {len(pairs)} pairs without a label"
    )


def label_all(engine: Any, pairs: Sequence[Comparison], some: Constitution, way: str) -> tuple[float, float]:
    """Seconds for all labels, and the share of prompt tokens that were computed."""
    from constitute.config import LabelConfig
    from constitute.editing.votes import vote
    from constitute.store import Store

    engine._llm.reset_prefix_cache()
    seen: list[tuple[int, int]] = []
    restore = watch(engine, seen, salted=way == "alone")
    cfg = LabelConfig(principles="all", layout="paper" if way == "paper" else "shared", min_mass=0.0)
    try:
        with tempfile.TemporaryDirectory() as folder, Store.open(folder) as store:
            started = time.perf_counter()
            votes = asyncio.run(vote(pairs, some, engine, store, cfg))
            took = time.perf_counter() - started
    finally:
        restore()
    if votes.asked != 2 * len(pairs) * len(some.principles) or votes.without:
        raise RuntimeError(f"asked {votes.asked} questions, {len(votes.without)} pairs without a label")
    return took, 1 - sum(cached for cached, _ in seen) / sum(length for _, length in seen)


def watch(engine: Any, seen: list[tuple[int, int]], *, salted: bool) -> Any:
    """Note (cached, all) prompt tokens of every request; `salted` keeps each from sharing anything."""
    loop, submit, add = engine._loop, engine._loop.submit, engine._llm.llm_engine.add_request
    numbers = count()

    async def noting(prompt: Sequence[int], params: Any) -> Any:
        output = await submit(prompt, params)
        seen.append((output.num_cached_tokens or 0, len(prompt)))
        return output

    def salting(number: str, prompt: dict[str, Any], params: Any) -> Any:
        return add(number, {**prompt, "cache_salt": str(next(numbers))} if salted else prompt, params)

    loop.submit, engine._llm.llm_engine.add_request = noting, salting

    def restore() -> None:
        del loop.submit, engine._llm.llm_engine.add_request

    return restore


def draw_pairs(n: int) -> list[Comparison]:
    """Pairs of replies to pocket's training prompts."""
    from constitute.pocket.replies import ANY, draw_reply
    from constitute.pocket.world import prompts

    rng = random.Random("labels")
    asked = prompts("train", n=n, seed=5)
    drawn = [[draw_reply(rng, prompt.ask, ANY).text() for _ in range(2)] for prompt in asked]
    return [
        Comparison(id=f"p{at}", prompt=prompt.as_prompt(), a=a, b=b if b != a else b + " Yes.")
        for at, (prompt, (a, b)) in enumerate(zip(asked, drawn, strict=True))
    ]


def principles(k: int) -> Constitution:
    """`k` principles over all of pocket's axes."""
    from constitute.pocket.replies import AXES
    from constitute.pocket.wordings import draw_principle

    rng = random.Random("principles")
    drawn = [draw_principle(rng, AXES[at % len(AXES)]) for at in range(k)]
    renamed = [p.model_copy(update={"id": f"p{at}"}) for at, p in enumerate(drawn)]
    return Constitution(name="bench", principles=tuple(renamed))


def prompt_tokens(engine: Any, pairs: Sequence[Comparison], constitution: Constitution) -> list[int]:
    """Length of each pair's question."""
    from constitute.stages.labels.choice import comparison_turn
    from constitute.types import Request

    principle = constitution.principles[0]
    return [len(engine._renderer.ids(Request(messages=comparison_turn(pair, principle)))) for pair in pairs]


def larger_model(folder: Path) -> str:
    """A random Llama of 25 M parameters with pocket's tokenizer, saved in `folder`."""
    import shutil

    import torch
    from transformers import AutoConfig, LlamaForCausalLM

    from constitute.packaged import model_path

    source = Path(model_path("pocket"))
    config = AutoConfig.from_pretrained(source)
    config.update({"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 8, "head_dim": 64})
    config.update({"num_attention_heads": 8, "num_key_value_heads": 8})
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        if (source / name).exists():
            shutil.copy(source / name, folder / name)
    return str(folder)
