"""A key is in no file of a run and in no line of output, whatever a server or a user does with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from mock_openai import answer, chat, refused
from scripted import constitution

from constitute.cli.errors import run_and_exit
from constitute.cli.main import cli
from constitute.constitution.write import to_yaml

KEY = "sk-secret-7f3a"


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    """Run a command in a run directory; gives its exit code and all that it says."""
    (tmp_path / "p.txt").write_text("Hi?\nWhy?\n")
    (tmp_path / "c.yaml").write_text(to_yaml(constitution("kind")))

    def run_in(name: str, *words: str) -> tuple[int, str]:
        place = ["--run", str(tmp_path / "run")]
        monkeypatch.setattr("sys.argv", ["constitute", name, *place, *words])
        code = run_and_exit(cli)
        said = capsys.readouterr()
        return code, said.out + said.err

    return run_in


def files_with_key(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def test_a_key_that_a_server_echoes_is_neither_stored_nor_shown(tmp_path, mock_server, monkeypatch, run):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    prompts = ("--prompts", str(tmp_path / "p.txt"), "--model", mock_server.url)
    mock_server.default = answer(chat(f"Your key is {KEY}."))
    code, said = run("generate", *prompts)
    assert code == 0 and KEY not in said and files_with_key(tmp_path) == []
    assert mock_server.headers[0]["Authorization"] == f"Bearer {KEY}"
    # Refused in the same words, which become the reason of a failed row.
    mock_server.script = [answer(chat("Hi."))]
    mock_server.default = refused(f"no more for {KEY}")
    words = ("--constitution", str(tmp_path / "c.yaml"), "--model", mock_server.url)
    code, said = run("revise", *words)
    assert code == 3 and KEY not in said and files_with_key(tmp_path) == []
    code, said = run("report")
    assert code == 0 and KEY not in said and files_with_key(tmp_path) == []
    assert "no more for ***" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize("where", ["model", "judge", "endpoints", "rollout_url", "user"])
def test_a_key_in_a_url_is_refused_before_anything_is_written(tmp_path, mock_server, where, run):
    keyed = f"{mock_server.url}/v1?api-key={KEY}"
    words = {
        "model": ["--model", keyed],
        "judge": ["--model", mock_server.url, "--set", f"judge={keyed}"],
        "endpoints": ["--model", mock_server.url, "--set", f"engine.endpoints=['{keyed}']"],
        "rollout_url": ["--model", mock_server.url, "--set", f"engine.rollout_url={keyed}"],
        "user": ["--model", mock_server.url.replace("//", f"//me:{KEY}@")],
    }[where]
    code, said = run("generate", "--prompts", str(tmp_path / "p.txt"), *words)
    assert code == 2 and KEY not in said and "engine.api_key_env" in said
    assert files_with_key(tmp_path) == [] and mock_server.requests == []
