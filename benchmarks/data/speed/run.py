"""Our data stages against raw vLLM, plain HTTP clients, distilabel and DataDesigner, in turn on one machine.

    python -m benchmarks data.speed --workload a --model pocket --prompts FILE [--sides ours,ceiling]
        [--rows 500] [--repeats 10] [--minutes 60] [--out speed.jsonl] [--peers FOLDER]

Workload a is generate, critique, revise; b is the labels of pairs by four principles in both orders, read
from log-probabilities. Every side gets the same conversations, `max_tokens` and sampling; the prefix cache is
cold each time, and each side runs once before anything is measured. A turn is one line of JSON in `--out`,
written as it ends; `python -m benchmarks data.speed.table FILE` makes the table. Sides of one repeat are
compared with each other, and every other repeat runs them in the opposite order.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from benchmarks.data.speed import work as workload
from benchmarks.data.speed.peers import python_of
from benchmarks.data.speed.work import Workload
from constitute.engines.server import ServeOptions, running

_HERE = Path(__file__).parent
# Side -> the process that holds it.
SIDES = {
    "ceiling": "inside",
    "ours": "inside",
    "client": "served",
    "bench": "bench",
    "ours_http": "served",
    "distilabel": "distilabel",
    "distilabel_tuned": "distilabel",
    "designer": "designer",
    "designer_tuned": "designer",
}
PEERS = Path("~/.cache/constitute-peers").expanduser()
# Sides that need no server.
INSIDE = ("ceiling", "ours")


@dataclass
class Process:
    """A side's process, spoken to by lines."""

    child: subprocess.Popen[str]
    log: Path
    warm: set[str] = field(default_factory=set)

    def ask(self, side: str) -> dict[str, Any]:
        """One run of a side."""
        assert self.child.stdin is not None
        self.child.stdin.write(f"{side}\n")
        self.child.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """The next line that the process says."""
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        if not line:
            return {"error": f"the process ended with code {self.child.wait()}; see {self.log}"}
        found: dict[str, Any] = json.loads(line)
        return found


def main(arguments: Sequence[str]) -> None:
    """Measure what is asked for until the repeats or the minutes are over."""
    given = _options().parse_args(arguments)
    sides = given.sides.split(",")
    if unknown := set(sides) - set(SIDES):
        sys.exit(f"no such side: {', '.join(sorted(unknown))}; known: {', '.join(SIDES)}")
    end = time.monotonic() + 60 * given.minutes
    with ExitStack() as stack:
        folder = given.work or stack.enter_context(tempfile.TemporaryDirectory(prefix="speed-"))
        Path(folder).mkdir(parents=True, exist_ok=True)
        work = Workload.of(given.workload, given.model, given.rows, folder)
        work = replace(work, tokens=given.tokens, temperature=given.temperature)
        work = replace(work, rows=workload.prepare(work, given.prompts))
        server = None
        if any(side not in INSIDE for side in sides):
            work, server = _served(work, stack)
        path = workload.save(work)
        processes = dict.fromkeys(dict.fromkeys(_kinds(sides)))
        for kind in processes:
            processes[kind] = stack.enter_context(process(kind, path, given.peers, Path(folder)))
        _rounds(sides, processes, work, server, given, end)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks data.speed")
    parser.add_argument("--workload", choices=("a", "b"), default="a")
    parser.add_argument("--model", choices=tuple(workload.CONSTITUTIONS), default="pocket")
    parser.add_argument("--prompts", required=True, help="a file of HH pairs")
    parser.add_argument("--sides", default="ours,ceiling", help=f"some of {','.join(SIDES)}")
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--tokens", type=int, default=workload.TOKENS, help="max_tokens of every answer")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=60.0, help="start no turn after so many")
    parser.add_argument("--out", type=Path, default=Path("speed.jsonl"))
    parser.add_argument("--peers", type=Path, default=PEERS)
    parser.add_argument("--work", help="folder that keeps the requests and the logs")
    return parser


def _kinds(sides: Sequence[str]) -> Iterator[str]:
    """The processes for some sides; the bench client reads what our side recorded, so that one is before."""
    for side in sides:
        if side == "bench":
            yield "served"
        yield SIDES[side]


def _served(work: Workload, stack: ExitStack) -> tuple[Workload, psutil.Process]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # `rollouts` opens vLLM's way to empty its prefix cache.
    options = ServeOptions(
        model=work.model,
        port=port,
        context_length=work.context,
        log=Path(work.folder) / "server.log",
        rollouts=True,
    )
    child = stack.enter_context(running(options))
    return replace(work, url=options.url), psutil.Process(child.pid)


@contextmanager
def process(kind: str, path: Path, peers: Path, folder: Path) -> Iterator[Process]:
    """The process of some sides, ready to be asked."""
    if kind in ("inside", "served"):
        words = [sys.executable, "-m", "benchmarks.data.speed.ours", str(path), kind]
    elif kind == "bench":
        words = [sys.executable, "-m", "benchmarks.data.speed.bench_client", str(path)]
    else:
        words = [str(python_of(kind, peers)), str(_HERE / f"{kind}_side.py"), str(path)]
    quiet = {"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1", "VLLM_NO_USAGE_STATS": "1"}
    log = folder / f"{kind}.log"
    with log.open("w") as sink:
        child = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sink,
            text=True,
            env=os.environ | quiet | {"NEMO_TELEMETRY_ENABLED": "false"},
        )
        try:
            started = Process(child, log)
            said = started.answer()
            if "error" in said:
                sys.exit(f"{kind} does not start: {said['error']}\n{log.read_text()[-2000:]}")
            print(f"{kind}: {said}", file=sys.stderr, flush=True)
            yield started
        finally:
            assert child.stdin is not None
            with suppress(BrokenPipeError):
                child.stdin.close()
            try:
                child.wait(30)
            except subprocess.TimeoutExpired:
                child.kill()


def _rounds(
    sides: Sequence[str],
    processes: dict[str, Any],
    work: Workload,
    server: psutil.Process | None,
    given: argparse.Namespace,
    end: float,
) -> None:
    about = {"workload": work.kind, "model": work.model, "n": work.rows, "temperature": work.temperature}
    with given.out.open("a", encoding="utf-8") as out:
        for repeat in range(given.repeats + 1):
            for side in sides if repeat % 2 else reversed(sides):
                if time.monotonic() > end:
                    print(f"the {given.minutes:g} minutes are over", file=sys.stderr)
                    return
                turn = _turn(side, processes[SIDES[side]], work, server if side not in INSIDE else None)
                print(f"repeat {repeat} {side}: {turn}", file=sys.stderr, flush=True)
                if repeat:  # the first warms up
                    line = about | {"repeat": repeat, "side": side, "at": round(time.time(), 1)} | turn
                    out.write(json.dumps(line) + "\n")
                    out.flush()


def _turn(side: str, process: Process, work: Workload, server: psutil.Process | None) -> dict[str, Any]:
    """One run of a side, with the CPU seconds of its processes and the server's own count of tokens."""
    trees = [psutil.Process(process.child.pid), *([] if server is None else [server])]
    if server is not None:
        urllib.request.urlopen(urllib.request.Request(f"{work.url}/reset_prefix_cache", method="POST"))
    load, cpu = os.getloadavg()[0], sum(map(cpu_seconds, trees))
    counted = _counters(work.url) if server is not None else {}
    turn = process.ask(side)
    turn |= {"cpu": round(sum(map(cpu_seconds, trees)) - cpu, 2), "load_before": round(load, 2)}
    if server is not None:
        turn |= {name: value - counted[name] for name, value in _counters(work.url).items()}
    return turn


def cpu_seconds(root: psutil.Process) -> float:
    """User and system seconds of a process tree, its ended and waited-for children among them."""
    total = 0.0
    for each in [root, *root.children(recursive=True)]:
        try:
            total += sum(each.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total


def _counters(url: str) -> dict[str, int]:
    """Tokens that a vLLM server has read and written so far."""
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        text = answer.read().decode()
    names = {"prompt_tokens": "vllm:prompt_tokens_total", "tokens": "vllm:generation_tokens_total"}
    return {
        key: int(sum(float(value) for value in re.findall(rf"^{name}{{[^\n]*}} (\S+)$", text, re.MULTILINE)))
        for key, name in names.items()
    }
