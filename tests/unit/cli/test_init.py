"""`constitute init` writes files that work as they are."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from constitute.cli.init import init
from constitute.config import load_config
from constitute.constitution.identity import constitution_hash
from constitute.constitution.read import load_constitution
from constitute.data.prompts import read_prompts
from constitute.errors import UsageError

NAMES = ["constitution.yaml", "prompts.jsonl", "run.yaml"]


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "my project"
    done = CliRunner().invoke(init, [str(folder)])
    assert done.exit_code == 0, done.output
    assert done.stdout.split("\n")[:3] == [str(folder / name) for name in NAMES]
    assert "constitute run run.yaml" in done.stderr and f"cd '{folder}'" in done.stderr
    return folder


def test_every_file_is_read_by_what_will_read_it(project):
    config = load_config(project / "run.yaml")
    assert config.model == "pocket"
    loaded = load_constitution(config.constitution)
    assert constitution_hash(loaded) == constitution_hash(load_constitution("harmless"))
    prompts, bad = read_prompts(config.prompts)
    assert (len(prompts), bad) == (24, [])
    assert len({prompt.messages for prompt in prompts}) == 24
    assert config.run == project / "run"


def test_prompts_are_the_same_every_time(project, tmp_path):
    again = tmp_path / "again"
    CliRunner().invoke(init, [str(again)])
    assert {n: (again / n).read_bytes() for n in NAMES} == {n: (project / n).read_bytes() for n in NAMES}
    CliRunner().invoke(init, [str(again), "--force", "--seed", "1"])
    assert (again / "prompts.jsonl").read_bytes() != (project / "prompts.jsonl").read_bytes()


def test_nothing_is_overwritten(project):
    (project / "run.yaml").write_text("mine")
    (project / "prompts.jsonl").unlink()
    done = CliRunner().invoke(init, [str(project)])
    assert isinstance(done.exception, UsageError)
    assert "constitution.yaml" in str(done.exception) and "run.yaml" in str(done.exception)
    assert (project / "run.yaml").read_text() == "mine" and not (project / "prompts.jsonl").exists()
