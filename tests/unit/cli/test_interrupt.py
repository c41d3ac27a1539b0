"""Ctrl-C: the first is acknowledged at once and the second ends, whatever the main thread is busy with."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from signal import SIGINT, SIGTERM, SIGWINCH

import pytest

from constitute.cli.interrupt import STOPPING, presses

# An engine that opens, or answers, in C code that looks for no signal: about a minute.
SLOW = """
import asyncio, hashlib, sys
from constitute.engines import ENGINES, fake
def busy(*_):
    sys.stderr.write("busy\\n")
    sys.stderr.flush()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 150_000_000)
class Opens(fake.FakeEngine):
    def __init__(self, model, config):
        busy()
class Answers(fake.FakeEngine):
    async def generate(self, *_, **more):
        await asyncio.to_thread(busy)
    choose = generate
sys.modules["slow"] = sys.modules["__main__"]
ENGINES |= {"opens": "slow:Opens", "answers": "slow:Answers"}
from constitute.cli.main import main
main()
"""


def said(stream: int, wanted: str, within_s: float) -> str:
    """What comes until `wanted` is there, or all that came in the time."""
    text, end = "", time.monotonic() + within_s
    while wanted not in text and (left := end - time.monotonic()) > 0:
        if select.select([stream], [], [], left)[0]:
            read = os.read(stream, 4096)
            if not read:
                break
            text += read.decode()
    return text


@pytest.mark.parametrize("kind", ["opens", "answers"])
@pytest.mark.parametrize("words", ["generate --prompts p.jsonl", "constitution test assistant"])
def test_the_first_is_acknowledged_at_once_and_the_second_ends(tmp_path: Path, kind: str, words: str) -> None:
    as_json = kind == "opens"
    (tmp_path / "p.jsonl").write_text(json.dumps({"prompt": "Why?"}) + "\n")
    line = [*words.split(), "--model", "m", "--set", f"engine.kind={kind}", *["--json"] * as_json]
    child = subprocess.Popen(
        [sys.executable, "-c", SLOW, *line],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout is not None and child.stderr is not None
    try:
        assert "busy" in said(child.stderr.fileno(), "busy", 60)
        child.send_signal(signal.SIGINT)
        told = json.dumps({"event": "note", "text": STOPPING}) if as_json else STOPPING
        stream = child.stdout if as_json else child.stderr
        assert told in said(stream.fileno(), told, 20)
        time.sleep(0.4)
        assert child.poll() is None
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=20) == 130
    finally:
        child.kill()
        child.communicate()


@pytest.mark.parametrize(
    ("came", "answers"),
    [
        ([(0.0, SIGINT), (1.0, SIGINT)], [False, True]),
        # One press that came twice.
        ([(0.0, SIGINT), (0.1, SIGINT)], [False]),
        ([(0.0, SIGWINCH), (5.0, SIGINT)], [False]),
        # A scheduler's SIGTERM, passed on as a SIGINT as soon as the main thread comes back.
        ([(0.0, SIGTERM), (9.0, SIGINT)], [False]),
        ([(0.0, SIGTERM), (9.0, SIGINT), (10.0, SIGINT)], [False, True]),
        # A launcher ends its workers after the terminal's own Ctrl-C.
        ([(0.0, SIGINT), (1.0, SIGTERM), (1.1, SIGINT)], [False]),
    ],
)
def test_a_second_wish_is_told_from_one_that_comes_twice(
    came: list[tuple[float, int]], answers: list[bool]
) -> None:
    clock = {"now": 0.0}

    def signals():  # type: ignore[no-untyped-def]
        for at, number in came:
            clock["now"] = at
            yield number

    assert list(presses(signals(), lambda: clock["now"])) == answers
