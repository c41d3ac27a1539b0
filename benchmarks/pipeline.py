"""What the pipeline adds around vLLM: a chain run through it against the same requests, all known beforehand.

    python -m benchmarks pipeline

Both use one engine in one process and are run in turn, each with a cold prefix cache. The ceiling is
`LLM.generate` over the recorded requests at once: no dependency between steps, no store, no parsing.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from constitute.progress import Silent

ROWS = 400
REPEATS = 3


class Counting(Silent):
    """Counts the tokens that the model wrote and says nothing."""

    count = 0

    def tokens(self, stage: str, count: int) -> None:
        self.count += count


def main() -> None:
    """Print seconds, tokens/s and the ratio for each repeat and their median."""
    from constitute.config import load_config
    from constitute.engines import open_engine
    from constitute.pocket.world import prompts

    config = load_config(
        overrides={
            "model": "pocket",
            "constitution": "pocket/harmless",
            "generate.max_tokens": 128,
            "run": "unused",
        }
    )
    rows = [prompt.as_prompt() for prompt in prompts("train", n=ROWS, seed=1)]
    engine: Any = open_engine("pocket", config.engine)
    recorded: list[tuple[list[int], Any]] = []
    record_into(engine, recorded)
    ours(engine, config, rows)  # warm-up, and the recording that the ceiling replays
    stop_recording(engine)
    ceiling(engine, recorded)
    print(f"{ROWS} rows x (response, critique, revision), {len(recorded)} requests, pocket, one engine")
    print(
        f"{'repeat':>6} {'ours s':>8} {'ceiling s':>10} {'ours tok/s':>11} {'ceiling tok/s':>14} {'ratio':>6}"
    )
    ratios = []
    for repeat in range(REPEATS):
        seconds, tokens = ours(engine, config, rows)
        floor_seconds, floor_tokens = ceiling(engine, recorded)
        ratio = (tokens / seconds) / (floor_tokens / floor_seconds)
        ratios.append(ratio)
        print(
            f"{repeat + 1:>6} {seconds:>8.2f} {floor_seconds:>10.2f} {tokens / seconds:>11.0f} "
            f"{floor_tokens / floor_seconds:>14.0f} {ratio:>6.3f}"
        )
    print(
        f"median ratio {statistics.median(ratios):.3f} "
        f"(min {min(ratios):.3f}, max {max(ratios):.3f}, n = {REPEATS})"
    )
    asyncio.run(engine.close())


def record_into(engine: Any, recorded: list[tuple[list[int], Any]]) -> None:
    """Note every request that reaches the engine's loop."""
    submit = engine._loop.submit

    async def noting(prompt: Sequence[int], params: Any) -> Any:
        recorded.append((list(prompt), params))
        return await submit(prompt, params)

    engine._loop.submit = noting


def stop_recording(engine: Any) -> None:
    """Put the loop's own method back."""
    del engine._loop.submit


def ours(engine: Any, config: Any, rows: Sequence[Any]) -> tuple[float, int]:
    """(seconds, tokens generated) of generate -> revise in a fresh run directory."""
    from constitute.pipeline import run_stages

    engine._llm.reset_prefix_cache()
    with tempfile.TemporaryDirectory() as folder:
        counting = Counting()
        start = time.perf_counter()
        here = config.model_copy(update={"run": Path(folder)})
        run_stages(here, ["generate", "revise"], prompts=rows, engine=engine, progress=counting)
        return time.perf_counter() - start, counting.count


def ceiling(engine: Any, recorded: Sequence[tuple[list[int], Any]]) -> tuple[float, int]:
    """(seconds, tokens generated) of the same requests given to vLLM at once."""
    engine._llm.reset_prefix_cache()
    start = time.perf_counter()
    outputs = engine._llm.generate(
        [{"prompt_token_ids": prompt} for prompt, _ in recorded],
        [params for _, params in recorded],
        use_tqdm=False,
    )
    return time.perf_counter() - start, sum(len(output.outputs[0].token_ids) for output in outputs)


if __name__ == "__main__":
    main()
