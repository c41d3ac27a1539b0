"""What a user gets wrong: one clear sentence, the right exit code, no traceback, nothing lost."""

from __future__ import annotations

import io
import json
import signal
import sqlite3
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from constitute.cli.errors import run_and_exit
from constitute.cli.main import cli

FAKE = ("--model", "fake", "--set", "engine.kind=fake")


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


def constitute(*args: str, cwd: Path) -> Done:
    """Run the command line in this process: to start Python for each costs more than all that is tested."""
    out, err = io.StringIO(), io.StringIO()
    argv, handlers = sys.argv, {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    sys.argv = ["constitute", *args]
    try:
        with chdir(cwd), redirect_stdout(out), redirect_stderr(err):
            code = run_and_exit(cli)
    finally:
        sys.argv = argv
        for each, handler in handlers.items():
            signal.signal(each, handler)
    return Done(code, out.getvalue(), err.getvalue())


def says(done: Done, code: int, *parts: str) -> str:
    """The one sentence on stderr, after checking exit code, content and the absence of a traceback."""
    told = done.stderr.strip()
    assert done.returncode == code, f"exit {done.returncode}: {told}\n{done.stdout}"
    assert "Traceback" not in told + done.stdout
    last = told.splitlines()[-1]
    for part in parts:
        assert part in told, f"{part!r} not in {told!r}"
    assert len(last) < 600, last
    return told


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [json.dumps({"prompt": f"How do I paint the fence, part {n}?"}) for n in range(4)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path


def test_missing_prompts_file(folder: Path) -> None:
    words = ("generate", *FAKE, "--prompts", "nowhere.jsonl")
    told = says(constitute(*words, cwd=folder), 2, "nowhere.jsonl")
    # The program that a user starts says the same.
    command = [sys.executable, "-m", "constitute", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    assert says(Done(done.returncode, done.stdout, done.stderr), 2) == told


def test_no_prompts_named(folder: Path) -> None:
    says(constitute("generate", *FAKE, cwd=folder), 2, "--prompts")


def test_folder_in_place_of_a_file(folder: Path) -> None:
    (folder / "a").mkdir()
    says(constitute("generate", *FAKE, "--prompts", "a", cwd=folder), 2, "a")


def test_empty_prompt_set(folder: Path) -> None:
    (folder / "empty.jsonl").write_text("", encoding="utf-8")
    says(constitute("generate", *FAKE, "--prompts", "empty.jsonl", cwd=folder), 2, "empty.jsonl")


def test_broken_line_is_named_and_can_be_skipped(folder: Path) -> None:
    (folder / "bad.jsonl").write_text('{"prompt": "fine"}\n{"prompt": \n{"prompt": "fine too"}\n', "utf-8")
    says(constitute("generate", *FAKE, "--prompts", "bad.jsonl", cwd=folder), 2, "bad.jsonl:2")
    done = constitute("generate", *FAKE, "--prompts", "bad.jsonl", "--skip-bad", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "skipped 1" in done.stderr and "bad.jsonl:2" in done.stderr


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("name: a\nprinciples:\n  - id: x\n    text: y\n    wieght: 2\n", ("c.yaml:5", "wieght", "weight")),
        ("name: a\nname: b\nprinciples:\n  - id: x\n    text: y\n", ("c.yaml:2", "name")),
        ("name: a\nprinciples:\n  - id: x\n    text: y\n  - id: x\n    text: z\n", ("c.yaml:5", "x")),
        ("name: a\nprinciples: []\n", ("c.yaml:2", "principles")),
    ],
)
def test_broken_constitution(folder: Path, text: str, parts: tuple[str, ...]) -> None:
    (folder / "c.yaml").write_text(text, encoding="utf-8")
    constitute("generate", *FAKE, "--prompts", "prompts.jsonl", cwd=folder)
    says(constitute("revise", "--constitution", "c.yaml", cwd=folder), 2, *parts)


def test_missing_constitution_lists_the_packaged_ones(folder: Path) -> None:
    constitute("generate", *FAKE, "--prompts", "prompts.jsonl", cwd=folder)
    says(
        constitute("revise", "--constitution", "harmles", cwd=folder),
        2,
        "harmles",
        "pocket/concise",
        "pocket/harmless",
    )


def test_unknown_model(folder: Path) -> None:
    args = ("generate", "--model", "no-such-org/no-such-model", "--set", "engine.kind=transformers")
    told = says(constitute(*args, "--prompts", "prompts.jsonl", cwd=folder), 2, "no-such-org/no-such-model")
    assert len(told.splitlines()) <= 2, told


def test_unreachable_server(folder: Path) -> None:
    args = ("generate", "--model", "http://127.0.0.1:9", "--prompts", "prompts.jsonl")
    says(constitute(*args, cwd=folder), 5, "127.0.0.1:9")


def test_prompt_longer_than_the_context_fails_alone(folder: Path) -> None:
    rows = [{"prompt": "How can I paint the fence?"}, {"prompt": "fence " * 3000}]
    (folder / "long.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    args = ("generate", "--model", "pocket", "--set", "engine.kind=transformers", "--prompts", "long.jsonl")
    done = constitute(*args, cwd=folder)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    status = constitute("status", "--json", cwd=folder)
    assert '"failed": 1' in status.stdout and '"ok": 1' in status.stdout
    assert "512" in done.stdout  # the limit, beside the row's own length


def test_run_directory_of_another_configuration(folder: Path) -> None:
    assert constitute("generate", *FAKE, "--prompts", "prompts.jsonl", cwd=folder).returncode == 0
    args = ("generate", *FAKE, "--prompts", "prompts.jsonl", "--set", "generate.temperature=0.3")
    says(constitute(*args, cwd=folder), 2, "temperature", "--run")


def test_run_directory_of_a_newer_version(folder: Path) -> None:
    assert constitute("generate", *FAKE, "--prompts", "prompts.jsonl", cwd=folder).returncode == 0
    with sqlite3.connect(folder / "run" / "run.sqlite") as base:
        base.execute("PRAGMA user_version = 999")
    says(constitute("status", cwd=folder), 2, "999")


def test_no_run_directory(folder: Path) -> None:
    says(constitute("status", "--run", "nothing", cwd=folder), 2, "nothing")
    says(constitute("show", "x", "--run", "nothing", cwd=folder), 2, "nothing")


def test_unknown_row_id_suggests_one(folder: Path) -> None:
    (folder / "named.jsonl").write_text('{"id": "fence-one", "prompt": "How?"}\n', encoding="utf-8")
    assert constitute("generate", *FAKE, "--prompts", "named.jsonl", cwd=folder).returncode == 0
    says(constitute("show", "fence-onr", cwd=folder), 2, "fence-one")


@pytest.mark.parametrize(
    ("sets", "parts"),
    [
        (("generate.temprature=1",), ("temprature", "temperature")),
        (("generate.temperature=hot",), ("temperature", "hot")),
        (("generate.n=0",), ("generate.n", "0")),
        (("nonsense",), ("nonsense", "a.b=value")),
    ],
)
def test_bad_settings(folder: Path, sets: tuple[str, ...], parts: tuple[str, ...]) -> None:
    flags = [flag for value in sets for flag in ("--set", value)]
    says(constitute("generate", *FAKE, "--prompts", "prompts.jsonl", *flags, cwd=folder), 2, *parts)


def test_unknown_command_and_flag(folder: Path) -> None:
    says(constitute("generat", cwd=folder), 2, "generate")
    says(constitute("generate", "--tempreature", "1", cwd=folder), 2, "--tempreature")


def test_unwritable_place(folder: Path) -> None:
    (folder / "file").write_text("", encoding="utf-8")
    args = ("generate", *FAKE, "--prompts", "prompts.jsonl", "--run", "file/run")
    says(constitute(*args, cwd=folder), 2, "file")


def test_training_without_data_or_model(folder: Path) -> None:
    says(constitute("train", "sft", "--model", "pocket", cwd=folder), 2, "export")
    says(
        constitute("train", "ppo", "--model", "pocket", "--prompts", "prompts.jsonl", cwd=folder), 2, "reward"
    )
    broken = folder / "sft.jsonl"
    broken.write_text('{"messages": [{"role": "user"}]}\n', encoding="utf-8")
    says(constitute("train", "sft", "--model", "pocket", "--data", "sft.jsonl", cwd=folder), 2, "sft.jsonl:1")


def test_whole_loop_refuses_a_server_before_asking_it(folder: Path) -> None:
    (folder / "run.yaml").write_text(
        "model: http://127.0.0.1:9\nconstitution: pocket/harmless\nprompts: prompts.jsonl\n", encoding="utf-8"
    )
    says(constitute("run", "run.yaml", cwd=folder), 2, "server")
