"""The store: what is acknowledged is there, in order, and what cannot be done is one sentence."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from constitute.errors import ConstituteError, RunMismatch, StorageError, UsageError
from constitute.store import FILE_NAME, Store, chain_of
from constitute.store.connection import readable, unmerged
from constitute.store.manifest import claim
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
        assert (store.ended("a", "r"), store.ended("a", "s")) == ((ended("r", 3), "hash2"), None)


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
    with pytest.raises(UsageError, match=f"^{tmp_path}/file is a file; give a folder$"):
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
    assert (tmp_path / "run.lock").read_text().split() == [str(os.getpid())]


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


def test_a_pair_s_namesake_with_a_hyphen_is_another_row(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        for row_id in ("hh", "hh-1", "hh-1-b"):
            store.put_outcome("label", ended(row_id))
        store.put_outcome("a new stage", ended("hh-1"))
        store.put_outcome("a newer stage", ended("hh-1-made from it"))
        found = {wanted: [o.row_id for _, o in chain_of(store, wanted)] for wanted in ("hh", "hh-1")}
        assert found["hh"] == ["hh", "hh-1", "hh-1-made from it"]
        assert found["hh-1"] == ["hh-1", "hh-1", "hh-1-made from it"]


def killed_run(folder: Path, journal: str = "WAL") -> Path:
    """A run whose writer was killed: one row in the file, one only beside it."""
    code = f"""
import os, sqlite3
from constitute.store import Store
from constitute.types import Outcome
with Store.open({str(folder)!r}) as store:
    store.put_outcome("a", Outcome(row_id="first", position=0, status="ok", data={{}}))
connection = sqlite3.connect({str(folder / FILE_NAME)!r}, isolation_level=None)
connection.execute("PRAGMA journal_mode = {journal}")
connection.execute("PRAGMA cache_size = 1")
connection.execute("PRAGMA wal_autocheckpoint = 0")
if {journal!r} == "DELETE":
    connection.execute("BEGIN")
    connection.execute("PRAGMA cache_spill = 1")
    for n in range(3000):
        connection.execute("INSERT INTO outcomes VALUES ('a', ?, 1, 'ok', NULL, '{{}}', '')", (f"r{{n}}",))
else:
    connection.execute("INSERT INTO outcomes VALUES ('a', 'second', 1, 'ok', NULL, '{{}}', '')")
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    return folder / FILE_NAME


@pytest.mark.parametrize(("journal", "ids"), [("WAL", "first second"), ("DELETE", "first")])
def test_a_folder_that_cannot_be_written_shows_every_acknowledged_row(journal: str, ids: str) -> None:
    """Read by a user who may not write there, as root may write everywhere."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        Path(name).chmod(0o755)
        path = killed_run(folder, journal)
        beside = unmerged(path)
        assert [each.name.removeprefix(FILE_NAME) for each in beside] == [
            {"WAL": "-wal", "DELETE": "-journal"}[journal]
        ]
        # Another file system would have no shared memory of the killed writer.
        path.with_name(f"{FILE_NAME}-shm").unlink(missing_ok=True)
        for each in folder.iterdir():
            each.chmod(0o444)
        folder.chmod(0o555)
        before = {each.name: each.read_bytes() for each in folder.iterdir()}
        with open("/dev/null", "rb") as nothing:
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    os.dup2(nothing.fileno(), 0)
                    if os.geteuid() == 0:
                        os.setgroups([])
                        os.setresgid(65534, 65534, 65534)
                        os.setresuid(65534, 65534, 65534)
                    tempfile.tempdir = "/tmp"
                    with Store.open(folder, readonly=True) as store:
                        found = " ".join(sorted(o.row_id for o in store.outcomes("a")))
                    code = 0 if found == ids else 2
                finally:
                    os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert {each.name: each.read_bytes() for each in folder.iterdir()} == before
        folder.chmod(0o755)


def test_a_clean_run_has_nothing_beside_it_and_is_not_copied(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    path = tmp_path / FILE_NAME
    assert unmerged(path) == []
    with readable(path) as uri:
        assert uri == f"{path.as_uri()}?mode=ro"
    (tmp_path / f"{FILE_NAME}-wal").write_bytes(b"")
    assert unmerged(path) == []


def test_a_run_whose_answers_are_reused_may_lie_in_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with Store.open(tmp_path / "old") as old:
        old.put_answer("k", "s", "r", {}, {"text": "a"})
    with Store.open(tmp_path / "new") as store:
        store.reuse(tmp_path / "old")
        assert store.answer("k") == {"text": "a"}
        (tmp_path / "odd").mkdir()
        sqlite3.connect(tmp_path / "odd" / FILE_NAME).execute("CREATE TABLE t (a)").connection.close()
    with (
        Store.open(tmp_path / "new") as store,
        pytest.raises(StorageError, match=r"odd/run\.sqlite is not a"),
    ):
        store.reuse(tmp_path / "odd")


@pytest.mark.parametrize("kind", ["symlink", "hard link", "folder", "pipe"])
def test_the_lock_overwrites_no_other_file(tmp_path: Path, kind: str) -> None:
    victim, lock = tmp_path / "victim", tmp_path / "run" / "run.lock"
    victim.write_text("precious")
    lock.parent.mkdir()
    plant = {
        "symlink": lambda: lock.symlink_to(victim),
        "hard link": lambda: os.link(victim, lock),
        "folder": lock.mkdir,
        "pipe": lambda: os.mkfifo(lock),
    }
    plant[kind]()
    with pytest.raises(StorageError, match=r"run\.lock is a link or no plain file|cannot write in"):
        Store.open(tmp_path / "run")
    assert victim.read_text() == "precious"


def test_nothing_is_written_through_a_linked_database_or_into_another_s(tmp_path: Path) -> None:
    victim = tmp_path / "victim.sqlite"
    sqlite3.connect(victim).execute("CREATE TABLE mine (a)").connection.close()
    before = victim.read_bytes()
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / FILE_NAME).symlink_to(victim)
    with pytest.raises(StorageError, match="is a link, and nothing is written through it"):
        Store.open(tmp_path / "linked")
    (tmp_path / "copied").mkdir()
    (tmp_path / "copied" / FILE_NAME).write_bytes(before)
    for readonly in (False, True):
        with pytest.raises(StorageError, match="a database of something else"):
            Store.open(tmp_path / "copied", readonly=readonly)
    assert victim.read_bytes() == before == (tmp_path / "copied" / FILE_NAME).read_bytes()


TAMPER = [
    "UPDATE outcomes SET data = '{'",
    "UPDATE outcomes SET data = '[1]'",
    "UPDATE outcomes SET data = '\"text\"'",
    "UPDATE outcomes SET data = '{\"a\": ' || printf('%.*c', 100000, '[')",
    "UPDATE outcomes SET data = CAST(x'ff' AS TEXT)",
    "UPDATE outcomes SET row_id = CAST(x'ff' AS TEXT) WHERE position = 1",
    "UPDATE answers SET answer = ''",
    "UPDATE answers SET answer = 'NaN,'",
    "UPDATE answers SET request = '{\"step\": }'",
    "UPDATE attempts SET answer = 'x'",
    "UPDATE meta SET value = '}'",
    "UPDATE meta SET value = '[3]'",
    "DROP TABLE outcomes",
    "DROP TABLE answers",
    "DROP TABLE meta",
    "ALTER TABLE outcomes RENAME COLUMN data TO datum",
    "ALTER TABLE meta RENAME TO notes",
    "PRAGMA user_version = 0",
]


def small_run(folder: Path) -> Path:
    with Store.open(folder) as store:
        for n in range(40):
            store.put_answer(f"k{n}", "a", f"r{n}", {"step": "x"}, {"text": "y" * 50})
            store.add_attempt(f"k{n}", "a", f"r{n}", "cut", {"text": "z"})
            store.put_outcome("a", ended(f"r{n}", n))
        claim(store, "a", {"seed": 0})
    return folder / FILE_NAME


def read_everything(folder: Path) -> None:
    """Whatever a command asks of a store."""
    for readonly in (True, False):
        with Store.open(folder, readonly=readonly) as store:
            for stage in store.stages():
                store.counts(stage)
                store.reasons(stage)
                list(store.outcomes(stage))
            for row_id in store.row_ids()[:3]:
                chain_of(store, row_id)
                list(store.answers_of(row_id))
                store.attempts_of(row_id)
            store.answer("k3")
            if not readonly:
                claim(store, "a", {"seed": 0})
                store.put_outcome("a", ended("r3", 3))


@pytest.mark.parametrize("statement", TAMPER)
def test_a_tampered_database_is_one_sentence(tmp_path: Path, statement: str) -> None:
    path = small_run(tmp_path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(statement)
    connection.close()
    with pytest.raises((StorageError, RunMismatch)) as caught:
        read_everything(tmp_path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_damaged_bytes_are_one_sentence_or_harmless(tmp_path: Path) -> None:
    whole = small_run(tmp_path).read_bytes()
    rng, told = random.Random(5), 0
    for _ in range(60):
        data = bytearray(whole)
        at = rng.randrange(len(data))
        kind = rng.randrange(3)
        if kind == 0:
            del data[at:]
        else:
            length = rng.choice((1, 16, 4096))
            data[at : at + length] = rng.randbytes(length) if kind == 1 else bytes(length)
        (tmp_path / FILE_NAME).write_bytes(data)
        for each in unmerged(tmp_path / FILE_NAME):
            each.unlink()
        try:
            read_everything(tmp_path)
        except ConstituteError as problem:
            told += 1
            assert "\n" not in str(problem)
    assert told > 10
