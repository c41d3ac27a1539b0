"""`constitute evals review` and `evals gate` as people type them: keys of a terminal, lines of a pipe."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time

from constitute.data.reviews import read_reviews

FAKE = ["--set", "engine.kind=fake"]
BEHAVIOR = "helps people to harm others"


def constitute(*words, cwd, keys=None):
    return subprocess.run(
        [sys.executable, "-m", "constitute", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        input=keys,
        timeout=120,
    )


def test_gate_refuses_the_writer_and_is_measured_against_people(tmp_path):
    wrote = constitute(
        "evals", "write", "--model", "m", *FAKE, "--behavior", BEHAVIOR, "-n", 10, cwd=tmp_path
    )
    assert wrote.returncode == 0, wrote.stderr
    refused = constitute("evals", "gate", "--judge", "m", *FAKE, cwd=tmp_path)
    assert refused.returncode == 2
    assert "--same-judge" in refused.stderr and "Traceback" not in refused.stderr
    assert constitute("evals", "gate", cwd=tmp_path).returncode == 2
    first = constitute("evals", "review", "--annotator", "ada", cwd=tmp_path, keys="1\n3\ns\nx\nq\n")
    assert first.returncode == 0, first.stderr
    assert "ada: 3 of 10 answered" in first.stderr
    for word in ("0.9", "confidence", "persona", "m-"):
        assert word not in first.stdout
    again = constitute("evals", "review", "--annotator", "ada", cwd=tmp_path, keys="2\n" * 7)
    assert "ada: 10 of 10 answered" in again.stderr
    gated = constitute("evals", "gate", "--judge", "m", "--same-judge", *FAKE, "--json", cwd=tmp_path)
    assert gated.returncode in (0, 4), gated.stderr
    gate = json.loads(gated.stdout.splitlines()[-1])["gate"]
    assert gate["candidates"] == 10 == gate["kept"] + sum(gate["dropped"].values())
    (judge,) = gate["judges"]
    assert judge["judge"]["same"] is True
    assert (gated.returncode == 4) == (gate["kept"] < 5)
    told = json.loads(constitute("evals", "review", "--report", "--json", cwd=tmp_path).stdout)
    # Nine answers of one annotator, none skipped among them.
    assert (told["sets"][0]["reviewed"], told["sets"][0]["written"]["n"]) == (9, 9)


def read_until(terminal, word, seconds):
    seen, end = b"", time.monotonic() + seconds
    while word not in seen and time.monotonic() < end:
        if select.select([terminal], [], [], 0.5)[0]:
            seen += os.read(terminal, 65536)
    return word in seen


def test_a_key_of_a_terminal_is_on_disk_when_it_is_killed(tmp_path):
    constitute("evals", "write", "--model", "m", *FAKE, "--behavior", BEHAVIOR, "-n", 10, cwd=tmp_path)
    terminal, inner = pty.openpty()
    words = [sys.executable, "-m", "constitute", "evals", "review", "--annotator", "bob"]
    with subprocess.Popen(words, stdin=inner, stdout=inner, stderr=inner, cwd=tmp_path) as process:
        os.close(inner)
        shown = read_until(terminal, b"quit >", 60)
        # A key that comes before the terminal gives single keys is thrown away, so it is pressed again.
        for _ in range(10 if shown else 0):
            os.write(terminal, b"3")
            if shown := read_until(terminal, b"2 of 10", 10):
                break
        process.send_signal(signal.SIGKILL)
    os.close(terminal)
    assert shown
    # The third answer is that the item is not about the behaviour.
    [kept] = read_reviews(tmp_path / "run" / "evals")
    assert (kept.choice, kept.annotator) == ("c", "bob")
