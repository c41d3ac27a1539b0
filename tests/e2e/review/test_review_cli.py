"""`constitute review` as people use it: keys of a terminal or lines of a pipe, killed, gone on with."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from report_runs import write_rows

from constitute.data.reviews import Review, add_reviews, read_items, read_reviews
from constitute.store import Store

PAIRS = ["constitute", "review", "pairs"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with Store.open(tmp_path / "run") as store:
        write_rows(store, 12, str)
    return tmp_path / "run"


def command(*words: str, keys: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words], input=keys, capture_output=True, text=True, timeout=120, check=False
    )


def test_lines_of_a_pipe_are_keys_and_the_session_goes_on(run: Path):
    first = command(*PAIRS, "--run", str(run), "--annotator", "ada", "-n", "4", keys="1\n=\nx\n\nq\n")
    assert first.returncode == 0, first.stderr
    assert "'x' is no answer" in first.stdout
    assert "ada: 2 of 4 answered" in first.stderr
    # What is shown says nothing of the judge, of sources or of ids.
    for word in ("revision", "P(", "0.2", "p0/0", "principle"):
        assert word not in first.stdout
    second = command(*PAIRS, "--run", str(run), "--annotator", "ada", keys="b\n2\n1\ns\n")
    assert "ada: 4 of 4 answered" in second.stderr
    found = read_reviews(run)
    assert len(found) == 4
    # The third showing is where it went on; b went back to the second, whose tie became the second answer.
    assert [one.choice for one in found][3] == "skip"
    assert "tie" not in [one.choice for one in found]
    assert found[0].choice == found[0].order[0]
    assert found[1].choice == found[1].order[1]


def test_report_in_words_and_as_json(run: Path):
    command(*PAIRS, "--run", str(run), "--annotator", "ada", "-n", "3", keys="")
    items = [item.id for item in read_items(run)]
    # The judge prefers the second side in all these pairs.
    for annotator, choices in {"ada": "bba", "bob": "bbb"}.items():
        add_reviews(
            run,
            [
                Review(item=name, annotator=annotator, choice=choice)
                for name, choice in zip(items, choices, strict=True)
            ],
        )
    told = command("constitute", "review", "report", "--run", str(run))
    assert told.returncode == 0, told.stderr
    assert "3 pairs under review, 3 answered by somebody" in told.stdout
    assert "ada, bob    0.67" in told.stdout
    found = json.loads(command("constitute", "review", "report", "--run", str(run), "--json").stdout)
    judge = {each["annotator"]: each["agreement"]["accuracy"]["value"] for each in found["judge"]}
    assert judge["bob"] == 1.0


def test_pairs_of_a_file_need_no_run(tmp_path: Path):
    file = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"Q{at}?", "chosen": f"yes {at}", "rejected": f"no {at}"} for at in range(3)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = command(
        *PAIRS, "--run", str(tmp_path / "r"), "--pairs", str(file), "--annotator", "ada", keys="1\n1\n1\n"
    )
    assert "3 of 3" in told.stderr
    assert {one.choice for one in read_reviews(tmp_path / "r")} <= {"a", "b"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*PAIRS, "--annotator", "a/b"), "cannot name an annotator"),
        ((*PAIRS, "--run", "nowhere", "--annotator", "ada"), "nowhere"),
        (("constitute", "review", "report", "--run", "nowhere"), "has no reviews"),
    ],
)
def test_refusals_are_one_sentence_and_leave_no_folder(tmp_path: Path, words: tuple[str, ...], said: str):
    told = subprocess.run(
        [sys.executable, "-m", *words], input="", capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert told.returncode == 2
    assert said in told.stderr and "Traceback" not in told.stderr
    assert not (tmp_path / "nowhere").exists()


def _read_until(terminal: int, word: bytes, seconds: float = 120) -> bool:
    seen, end = b"", time.monotonic() + seconds
    while word not in seen and time.monotonic() < end:
        if select.select([terminal], [], [], 0.5)[0]:
            seen += os.read(terminal, 65536)
    return word in seen


def test_single_keys_of_a_terminal_are_on_disk_when_it_is_killed(run: Path):
    terminal, inner = pty.openpty()
    words = [sys.executable, "-m", *PAIRS, "--run", str(run), "--annotator", "ada", "-n", "3"]
    with subprocess.Popen(words, stdin=inner, stdout=inner, stderr=inner) as process:
        os.close(inner)
        shown = _read_until(terminal, b"quit >")
        # A key that comes before the terminal gives single keys is thrown away, so it is pressed again.
        for _ in range(10 if shown else 0):
            os.write(terminal, b"1")
            if shown := _read_until(terminal, b"2 of 3", 10):
                break
        process.send_signal(signal.SIGKILL)
    assert shown
    os.close(terminal)
    [kept] = read_reviews(run)
    assert kept.choice == kept.order[0] and kept.seconds is not None
    told = command(*PAIRS, "--run", str(run), "--annotator", "ada", keys="2\n2\n")
    assert "ada: 3 of 3 answered" in told.stderr
