"""`constitute evals review` and `evals gate` as people type them: keys of a terminal, lines of a pipe."""

import json
import os
import pty
import select
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


def test_keys_of_a_terminal(tmp_path):
    constitute("evals", "write", "--model", "m", *FAKE, "--behavior", BEHAVIOR, "-n", 10, cwd=tmp_path)
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "constitute", "evals", "review", "--annotator", "bob"]
    child = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path, close_fds=True)
    os.close(theirs)
    seen, keys, asked, end = "", list("13q"), 0, time.monotonic() + 60
    while child.poll() is None and time.monotonic() < end:
        if select.select([ours], [], [], 0.1)[0]:
            try:
                seen += os.read(ours, 4096).decode(errors="replace")
            except OSError:
                break
        if keys and seen.count("quit >") > asked:
            asked += 1
            os.write(ours, keys.pop(0).encode())
    assert child.wait(10) == 0
    os.close(ours)
    assert [one.choice for one in read_reviews(tmp_path / "run" / "evals")] == ["a", "c"]
