"""The lint command: exit codes, lines, JSON, files that cannot be opened, the hook for pre-commit."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from places import ROOT

from constitute.cli.constitution.lint import lint
from constitute.editing.lint.findings import RULES, Finding
from constitute.errors import UsageError
from constitute.strict_yaml import parse_yaml

VAGUE = "name: x\nprinciples:\n  - id: a\n    text: Be good.\n"
BROKEN = "name: x\nprinciples:\n  - id: a\n"


@pytest.fixture(autouse=True)
def _without_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files here are as short as can be, without examples."""
    monkeypatch.delitem(RULES, "no-examples")


def run(*args: object) -> Result:
    return CliRunner().invoke(lint, [str(arg) for arg in args], standalone_mode=False)


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_lines_and_exit_codes(tmp_path):
    vague, broken = written(tmp_path, "v.yaml", VAGUE), written(tmp_path, "b.yaml", BROKEN)
    done = run("pocket/harmless", vague, broken)
    assert done.return_value == 4
    first, second = done.stdout.splitlines()
    assert first.startswith(f"{vague}:4:11: warning [vague-wording]: the text says no more than 'good'")
    assert (
        second
        == f"{broken}:3:5: error [schema]: the key 'text' is missing; add 'text: what the principle asks for'"
    )
    assert done.stderr == "3 files: 1 error, 1 warning, 0 notes\n"
    assert run("pocket/harmless").return_value == 0
    assert run(vague).return_value == 0
    assert run(vague, "--strict").return_value == 4
    allowed = run(vague, "--strict", "--allow", "vague-wording")
    assert (allowed.return_value, allowed.stderr) == (
        0,
        "1 file: 0 errors, 0 warnings, 0 notes, 1 silenced\n",
    )


def test_json_is_one_object_a_finding_and_the_counts(tmp_path):
    done = run(written(tmp_path, "v.yaml", VAGUE), "--json")
    found, counts = map(json.loads, done.stdout.splitlines())
    assert set(found) == set(Finding.model_fields)
    assert (found["rule"], found["line"], found["column"], found["principle"]) == (
        "vague-wording",
        4,
        11,
        "a",
    )
    assert counts == {"files": 1, "errors": 0, "warnings": 1, "notes": 0, "silenced": 0}


def test_nothing_in_a_file_reaches_the_terminal_as_a_command(tmp_path):
    text = (
        'name: x\nprinciples:\n  - id: a\n    text: "Do \u202enot lie as needed."\n    tags: ["a\u202eb"]\n'
    )
    done = run(written(tmp_path, "v.yaml", text))
    assert "U+202E" in done.stdout and "\u202e" not in done.stdout


def test_rules_are_listed_and_unknown_ones_refused(tmp_path):
    listed = run("--rules").stdout
    assert "near-duplicate" in listed and "contradiction" in listed
    path = written(tmp_path, "v.yaml", VAGUE)
    for name, said in (("vague-wordings", "did you mean 'vague-wording'?"), ("schema", "cannot be allowed")):
        problem = run(path, "--allow", name).exception
        assert isinstance(problem, UsageError) and said in str(problem)
    assert "--model" in str(run(path, "--pairs", "p.jsonl").exception)


def kinds(folder: Path) -> dict[str, str]:
    """Names that cannot be opened as a file, with a word of what is said of each."""
    (folder / "folder.yaml").mkdir()
    (folder / "gone.yaml").symlink_to(folder / "nowhere")
    (folder / "loop.yaml").symlink_to(folder / "loop.yaml")
    os.mkfifo(folder / "pipe.yaml")
    written(folder, "large.yaml", VAGUE + "#" + "x" * 10_000_000)
    return {
        str(folder / "folder.yaml"): "a folder",
        str(folder / "gone.yaml"): "a link to a file that is not there",
        str(folder / "loop.yaml"): "",
        str(folder / "pipe.yaml"): "a pipe or a device",
        "/dev/null": "a pipe or a device",
        str(folder / "large.yaml"): "larger than 4,000,000 bytes",
        str(folder / "none.yaml"): "no such file",
        "x" * 5000: "",
        "": "",
    }


@pytest.mark.timeout(20)
def test_what_cannot_be_opened_is_an_error_with_a_fix(tmp_path):
    for name, said in kinds(tmp_path).items():
        done = run(name, "--json")
        assert done.exception is None, (name, done.exception)
        assert done.return_value == 4
        (found, _) = map(json.loads, done.stdout.splitlines())
        assert (found["rule"], found["line"], found["column"]) == ("file", 1, 1)
        assert said in found["message"] and found["fix"], found


def test_a_file_without_permission_is_an_error(tmp_path, monkeypatch):
    # Whoever runs the tests may read everything, so the refusal is made.
    def refuse(path: Path, limit: int = 0) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("constitute.editing.lint.findings.read_bytes", refuse)
    done = run(written(tmp_path, "v.yaml", VAGUE))
    assert done.return_value == 4
    assert "[file]: the file cannot be read (Permission denied); check" in done.stdout


def test_a_model_is_asked_of_files_that_can_be_loaded(tmp_path, monkeypatch):
    import constitute.editing.lint.model as checks

    asked = []

    def fake(linted, config, *, probes, pairs, allow, progress):
        if linted.constitution is None:
            return linted
        asked.append((linted.constitution.name, config.model, linted.file, config.run, probes, pairs))
        found = Finding(
            severity="warning", rule="order-bias", file=linted.file, line=3, column=9, message="m", fix="f"
        )
        return linted._replace(findings=(*linted.findings, found))

    monkeypatch.setattr(checks, "lint_with_model", fake)
    good, broken = written(tmp_path, "v.yaml", VAGUE), written(tmp_path, "b.yaml", BROKEN)
    pairs = written(tmp_path, "p.jsonl", '{"prompt": "hi", "a": "yes", "b": "no"}\n')
    done = run(good, broken, "--model", "pocket", "--cache", tmp_path / "kept", "--pairs", pairs)
    ((name, model, file, cache, probes, given),) = asked
    assert (name, model, file, cache, probes) == ("x", "pocket", str(good), tmp_path / "kept", ())
    assert [(pair.a, pair.b) for pair in given] == [("yes", "no")]
    assert f"{good}:3:9: warning [order-bias]: m; f" in done.stdout
    assert "no model is asked before its errors are mended" in done.stderr
    assert done.return_value == 4


def test_hook_for_pre_commit():
    (hook,) = parse_yaml((ROOT / ".pre-commit-hooks.yaml").read_bytes(), "hooks").items
    value = {key: node.scalar for key, node in hook.entries.items()}
    assert value["id"] == "constitute-lint" and value["language"] == "python"
    command = shlex.split(str(value["entry"]))
    assert command == ["constitute", "constitution", "lint"]
    lint.make_context(command[-1], ["a.yaml", "b.yaml"])
    files = re.compile(str(value["files"]))
    for name in (
        "constitutions/a.yaml",
        "x/constitutions/a.yml",
        "constitution.yaml",
        "my-constitution-2.yml",
    ):
        assert files.search(name), name
    for name in ("a.yaml", "constitutions.md", "constitutions/a/b.yaml", "run.yaml", "constitution.yaml.bak"):
        assert not files.search(name), name


def test_no_heavy_import():
    code = (
        "import sys\nfrom constitute.cli.constitution.lint import lint\n"
        "lint.main(['assistant'], standalone_mode=False)\n"
        "heavy = {'torch', 'transformers', 'vllm', 'numpy', 'pyarrow', 'aiohttp', 'rich', 'sqlite3'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
