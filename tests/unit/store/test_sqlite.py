"""The store: what is acknowledged is there, in order, and what cannot be done is one sentence."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from constitute.errors import RunMismatch, StorageError, UsageError
from constitute.store import FILE_NAME, Store, chain_of
from constitute.types import Outcome


def ended(row_id: str, position: int = 0, status: str = "ok", reason: str | None = None) -> Outcome:
    data = {"text": row_id} if status == "ok" else None
    return Outcome(row_id=row_id, position=position, status=status, reason=reason, data=data)  # type: ignore[arg-type]


def test_an_answer_comes_back_and_the_first_one_stays(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        assert store.answer("k") is None
        store.put_answer(
            "k", "generate", "p/0", {"step": "response"}, {"text": "ä\x00\n", "p": float("-inf")}
        )
        store.put_answer("k", "generate", "p/0", {}, {"text": "another"})
        assert store.answer("k") == {"text": "ä\x00\n", "p": float("-inf")}
        assert list(store.answers_of("p/0")) == [("generate", {"step": "response"}, store.answer("k"))]


def test_outcomes_come_by_position_across_pages_while_others_are_written(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        for number in reversed(range(2500)):
            store.put_outcome("a", ended(f"r{number}", number, "ok" if number % 2 else "failed", None))
        seen = []
        for outcome in store.outcomes("a", "ok"):
            store.put_outcome("b", ended(outcome.row_id, outcome.position))
            seen.append(outcome.position)
        assert seen == list(range(1, 2500, 2))
        assert [row.position for row in store.outcomes("a")] == list(range(2500))
        assert store.counts("a") == {"ok": 1250, "abstain": 0, "failed": 1250}
        assert store.stages() == ["a", "b"]


def test_an_outcome_replaces_the_row_s_earlier_one(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.put_outcome("a", ended("r", 3, "failed", "no room"), "hash1")
        assert store.reasons("a") == [("failed", "no room", 1)]
        store.put_outcome("a", ended("r", 3), "hash2")
        assert store.counts("a") == {"ok": 1, "abstain": 0, "failed": 0}
        assert store.outcome("a", "r") == ended("r", 3)
        assert (store.input_hash("a", "r"), store.input_hash("a", "s")) == ("hash2", None)


def test_attempts_and_notes_are_kept(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.add_attempt("k", "generate", "p/0", "cut at 3 tokens", {"text": "a"})
        store.add_attempt("k", "generate", "p/0", "timed out")
        store.put_meta("m", {"b": [1]})
    with Store.open(tmp_path, readonly=True) as store:
        assert store.attempts_of("p/0") == [
            ("generate", "cut at 3 tokens", {"text": "a"}),
            ("generate", "timed out", None),
        ]
        assert (store.meta("m"), store.meta("absent"), store.answer("k")) == ({"b": [1]}, None, None)


def test_wal_and_strict_tables_are_on(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    strict = connection.execute("SELECT name FROM pragma_table_list WHERE strict = 1 ORDER BY 1").fetchall()
    assert [name for (name,) in strict] == ["answers", "attempts", "meta", "outcomes"]


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    for readonly in (False, True):
        with pytest.raises(RunMismatch, match=r"newer constitute .schema 99, this one reads 1"):
            Store.open(tmp_path, readonly=readonly)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"hello " * 1000)
    with pytest.raises(StorageError, match="not a run's file or is damaged"):
        Store.open(tmp_path)


def test_no_run_is_a_usage_error_and_makes_nothing(tmp_path: Path) -> None:
    for readonly, create in ((True, True), (False, False)):
        with pytest.raises(UsageError, match="no run in"):
            Store.open(tmp_path / "r", create=create, readonly=readonly)
    assert not (tmp_path / "r").exists()


def test_a_path_that_cannot_be_a_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        Store.open(tmp_path / "file" / "run")


def test_a_second_process_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    code = f"from constitute.store import Store; Store.open({str(tmp_path)!r})"
    with Store.open(tmp_path):
        with Store.open(tmp_path):
            pass
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert f"RunMismatch: {tmp_path} is in use by process {os.getpid()};" in done.stderr
        reader = code.replace("')", "', readonly=True)")
        assert subprocess.run([sys.executable, "-c", reader]).returncode == 0
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    code = f"import os; from constitute.store import Store; s = Store.open({str(tmp_path)!r}); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    assert (tmp_path / "run.lock").read_text().strip().isdigit()
    with Store.open(tmp_path) as store:
        store.put_meta("a", 1)
    assert (tmp_path / "run.lock").read_text() == f"{os.getpid()}\n"


def test_a_lock_does_not_outlive_its_process_in_a_forked_child(tmp_path: Path) -> None:
    code = (
        "import os, time; from constitute.store import Store\n"
        f"s = Store.open({str(tmp_path)!r})\n"
        "if os.fork() == 0:\n    os.close(1); os.close(2); time.sleep(5); os._exit(0)\n"
        "os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    Store.open(tmp_path).close()


def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands in for the full disk: a write beyond it fails the same way, in the same call."""
    code = f"""
import resource, sys
from constitute.errors import StorageError
from constitute.store import Store
store = Store.open({str(tmp_path)!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
n = 0
try:
    while True:
        store.put_answer(f"k{{n}}", "s", "r", {{}}, {{"text": "x" * 2000}})
        n += 1
except StorageError as problem:
    print(n)
    print(problem)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, sentence = done.stdout.splitlines()
    assert int(count) > 20
    assert "everything acknowledged is kept: free some space" in sentence
    with Store.open(tmp_path) as store:
        assert [n for n in range(int(count)) if store.answer(f"k{n}") is None] == []


def test_ids_are_found_by_beginning(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        for prompt, place in (("apple", 0), ("apricot", 1), ("a/b", 2)):
            for sample in (0, 1):
                store.put_outcome("generate", ended(f"{prompt}/{sample}", place * 1024 + sample))
            store.put_outcome("label", ended(f"{prompt}/0-1", place * 1024))

        def found(wanted: str) -> list[str]:
            return [outcome.row_id for _, outcome in chain_of(store, wanted)]

        assert found("apple") == ["apple/0", "apple/0-1", "apple/1"]
        assert found("appl") == found("apple")
        assert found("apple/0") == ["apple/0", "apple/0-1"]
        assert found("apple/0-") == ["apple/0-1"]
        assert found("apple/1") == ["apple/1"]
        assert found("a/b") == ["a/b/0", "a/b/0-1", "a/b/1"]
        with pytest.raises(UsageError, match=r"beginning of 2 rows .apple, apricot"):
            found("ap")
        with pytest.raises(UsageError, match="did you mean apple"):
            found("aple")
        with pytest.raises(UsageError, match="ids are such as a/b, apple"):
            found("zzz")
