"""What a busy process on the same machine costs: `python -m benchmarks neighbour [--demo | --sizes]`.

Threads of OpenMP wait for each other by spinning. Beside a busy process they spin for a core that it holds.
Without an option: `generate` on pocket by spin count and number of threads. `--demo`: the whole demo as it is
shipped. `--sizes`: a training step and a decoding step of models of several sizes with one thread and with
all, which is where `constitute.threads.SMALL` comes from. The settings take turns, so that a machine that
becomes slower does so for each. Run it on a quiet machine; the neighbour is started here.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from constitute.pocket.world import prompts as world_prompts

ROWS = 320
BUSY = [sys.executable, "-c", "while True: pass"]
OWN = "own"
_SETTINGS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")
# Vocabulary, width, layers, heads: 3 M as pocket has, up to 135 M as SmolLM2 has.
SHAPES = ((2048, 192, 6, 6), (4096, 256, 8, 4), (8192, 320, 10, 5), (16384, 448, 12, 7), (49152, 576, 27, 9))


def main(arguments: list[str]) -> None:
    """Measure what the options name and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks neighbour", description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--demo", action="store_true", help="the whole demo, alone and beside")
    what.add_argument("--sizes", action="store_true", help="one thread against all, by model size")
    parser.add_argument("--spins", nargs="*", default=["300000", "0", "1000", "10000", "100000"])
    parser.add_argument("--threads", nargs="*", type=int, default=[2, 1])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    if options.sizes:
        measure_sizes(options.repeats)
    elif options.demo:
        measure_demo(options.repeats)
    else:
        measure_generate(options.spins, options.threads, options.repeats)


def measure_generate(spins: list[str], threads: list[int], repeats: int) -> None:
    """Rows a second of `generate` for each setting, and for the package's own choice, alone and beside."""
    settings = [(OWN, OWN)] + [(spin, str(count)) for count in threads for spin in spins if count > 1]
    settings += [("-", "1")] if 1 in threads else []
    found: dict[tuple[str, str, bool], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        prompts = write_prompts(Path(folder) / "prompts.jsonl")
        for repeat in range(repeats):
            for spin, count in settings:
                for beside in (False, True):
                    run = Path(folder) / f"{repeat}-{spin}-{count}-{beside}"
                    rate = rows_per_second(prompts, run, environment(spin, count), beside)
                    found.setdefault((spin, count, beside), []).append(rate)
                    print(
                        spin,
                        count,
                        "beside" if beside else "alone",
                        f"{rate:.1f}",
                        file=sys.stderr,
                        flush=True,
                    )
    print(f"{'spin count':>12}  threads  rows/s alone           rows/s beside          alone / beside")
    for spin, count in settings:
        alone, beside_one = (found[spin, count, each] for each in (False, True))
        ratio = statistics.median(alone) / statistics.median(beside_one)
        print(f"{spin:>12}  {count:>7}  {words(alone):<21}  {words(beside_one):<21}  {ratio:.2f}")


def measure_demo(repeats: int) -> None:
    """Seconds of the whole `constitute demo` in a fresh process, alone and beside."""
    found: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(repeats):
            for beside in (False, True):
                start = time.perf_counter()
                with neighbour(beside):
                    constitute(["demo", "--out", f"{folder}/{repeat}-{beside}"], environment(OWN, OWN))
                found[beside].append(time.perf_counter() - start)
                print(
                    "beside" if beside else "alone", f"{found[beside][-1]:.0f} s", file=sys.stderr, flush=True
                )
    ratio = statistics.median(found[True]) / statistics.median(found[False])
    print(f"demo alone {words(found[False])} s, beside one busy process {words(found[True])} s: {ratio:.2f}")


def measure_sizes(repeats: int) -> None:
    """Milliseconds of a training step (16 rows of 96 tokens) and a decoding step (64 rows) by threads."""
    import torch

    every = torch.get_num_threads()
    print(f"{'parameters':>12}  step      1 thread, ms           {every} threads, ms          speed-up")
    for shape in SHAPES:
        parameters, steps = timed_steps(*shape)
        found: dict[tuple[str, int], list[float]] = {}
        # The first round warms up.
        for repeat in range(repeats + 1):
            for count in (1, every):
                torch.set_num_threads(count)
                for name, step in steps.items():
                    start = time.perf_counter()
                    step()
                    if repeat:
                        found.setdefault((name, count), []).append(1000 * (time.perf_counter() - start))
        for name in steps:
            one, all_of_them = found[name, 1], found[name, every]
            gain = statistics.median(one) / statistics.median(all_of_them)
            print(
                f"{parameters:>12,}  {name:<8}  {words(one):<21}  {words(all_of_them):<21}  {gain:.2f}",
                flush=True,
            )


def timed_steps(
    vocabulary: int, width: int, layers: int, heads: int
) -> tuple[int, dict[str, Callable[[], Any]]]:
    """The size of a random Llama of this shape, and its two steps."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=8 * width // 3, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=heads, tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    ids_BL, shown_BL = torch.randint(vocabulary, (16, 96)), torch.randint(vocabulary, (64, 48))
    with torch.no_grad():
        cache = model(shown_BL, use_cache=True, logits_to_keep=1).past_key_values

    def train() -> None:
        model.zero_grad()
        model(ids_BL, labels=ids_BL).loss.backward()

    @torch.no_grad()
    def decode() -> None:
        model(shown_BL[:, :1], past_key_values=cache, use_cache=True)
        cache.crop(-1)

    return sum(weight.numel() for weight in model.parameters()), {"train": train, "decode": decode}


def write_prompts(path: Path) -> Path:
    """The first prompts of pocket's world as a file."""
    drawn = [prompt.as_prompt() for prompt in world_prompts("train", n=ROWS, seed=0)]
    lines = [prompt.model_dump_json() for prompt in drawn]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def environment(spin: str, threads: str) -> dict[str, str]:
    """This process's environment with these settings; `OWN` leaves the choice to the package."""
    kept = {name: value for name, value in os.environ.items() if name not in _SETTINGS}
    if threads != OWN:
        kept["OMP_NUM_THREADS"] = threads
    if spin not in (OWN, "-"):
        kept["GOMP_SPINCOUNT"] = spin
    return kept


def rows_per_second(prompts: Path, run: Path, settings: dict[str, str], beside: bool) -> float:
    """Rows a second of one whole `constitute generate` process, the loading of the model left out."""
    asked = ["generate", "--model", "pocket", "--prompts", str(prompts), "--run", str(run), "--json"]
    with neighbour(beside):
        done = constitute(asked, settings)
    events = [json.loads(line) for line in done.splitlines() if line.startswith("{")]
    return next(float(event["rows_per_s"]) for event in events if event["event"] == "finish")


def constitute(arguments: list[str], settings: dict[str, str]) -> str:
    """What the command printed; raises `CalledProcessError` where it fails."""
    words = [sys.executable, "-m", "constitute", *arguments]
    return subprocess.run(words, env=settings, stdout=subprocess.PIPE, text=True, check=True).stdout


@contextmanager
def neighbour(there: bool) -> Iterator[None]:
    """One process that never rests, for the length of the block."""
    busy = subprocess.Popen(BUSY) if there else None
    try:
        yield
    finally:
        if busy is not None:
            busy.kill()
            busy.wait()


def words(values: list[float]) -> str:
    """The median, the range and n."""
    return f"{statistics.median(values):.0f} ({min(values):.0f}-{max(values):.0f}, n = {len(values)})"


if __name__ == "__main__":
    main(sys.argv[1:])
