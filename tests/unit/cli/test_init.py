"""`constitute init` writes files that work as they are."""

from __future__ import annotations

from difflib import SequenceMatcher

import pytest
from click.testing import CliRunner

from constitute.cli.init import init
from constitute.config import load_config
from constitute.constitution.identity import constitution_hash
from constitute.constitution.read import load_constitution
from constitute.data.prompts import read_prompts
from constitute.data.starter import template_names
from constitute.errors import UsageError

NAMES = ["constitution.yaml", "prompts.jsonl", "run.yaml"]


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "my project"
    done = CliRunner().invoke(init, [str(folder), "--template", "pocket"])
    assert done.exit_code == 0, done.output
    assert done.stdout.split("\n")[:3] == [str(folder / name) for name in NAMES]
    assert "constitute run run.yaml" in done.stderr and f"cd '{folder}'" in done.stderr
    return folder


def test_every_file_is_read_by_what_will_read_it(project):
    config = load_config(project / "run.yaml")
    assert config.model == "pocket"
    loaded = load_constitution(config.constitution)
    assert constitution_hash(loaded) == constitution_hash(load_constitution("pocket/harmless"))
    prompts, bad = read_prompts(config.prompts)
    assert (len(prompts), bad) == (24, [])
    assert len({prompt.messages for prompt in prompts}) == 24
    assert config.run == project / "run"


def test_prompts_are_the_same_every_time(project, tmp_path):
    again = tmp_path / "again"
    CliRunner().invoke(init, [str(again), "--template", "pocket"])
    assert {n: (again / n).read_bytes() for n in NAMES} == {n: (project / n).read_bytes() for n in NAMES}
    CliRunner().invoke(init, [str(again), "--template", "pocket", "--force", "--seed", "1"])
    assert (again / "prompts.jsonl").read_bytes() != (project / "prompts.jsonl").read_bytes()


def test_nothing_is_overwritten(project):
    (project / "run.yaml").write_text("mine")
    (project / "prompts.jsonl").unlink()
    done = CliRunner().invoke(init, [str(project)])
    assert isinstance(done.exception, UsageError)
    assert "constitution.yaml" in str(done.exception) and "run.yaml" in str(done.exception)
    assert (project / "run.yaml").read_text() == "mine" and not (project / "prompts.jsonl").exists()


def nearness(a, b):
    return SequenceMatcher(None, a.lower(), b.lower(), autojunk=False).ratio()


@pytest.mark.parametrize("template", template_names())
def test_every_template_starts_a_project_that_reads_whole(template, tmp_path):
    done = CliRunner().invoke(init, [str(tmp_path / "p"), "--template", template])
    assert done.exit_code == 0, done.output
    config = load_config(tmp_path / "p" / "run.yaml")
    assert config.model == ("pocket" if template == "pocket" else "smollm2")
    constitution = load_constitution(config.constitution)
    prompts, bad = read_prompts(config.prompts)
    asked = {prompt.messages[-1].content for prompt in prompts}
    assert (len(asked), bad) == (len(prompts), [])
    assert len(asked) >= 24
    shown = {example.prompt for p in constitution.principles for example in p.examples}
    assert not asked & shown
    if template != "pocket":  # whose world is too small for prompts that differ much
        assert [(a, b) for a in asked for b in shown if nearness(a, b) > 0.7] == []


def test_another_model_gets_the_values_of_a_gpu_and_its_name_as_it_is(tmp_path):
    name = "C:\\models\\my: model #1"
    done = CliRunner().invoke(init, [str(tmp_path), "--model", name])
    assert done.exit_code == 0, done.output
    config = load_config(tmp_path / "run.yaml")
    assert (config.model, config.label.method, config.train.ppo.iterations) == (name, "choice", 200)
    assert "constitute fetch" not in done.stderr


def test_a_model_that_is_not_here_yet_is_fetched_first(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    done = CliRunner().invoke(init, [str(tmp_path / "p")])
    assert [line.strip() for line in done.stderr.splitlines()[2:]] == [
        f"cd {tmp_path / 'p'} && constitute constitution show constitution.yaml",
        "constitute fetch",
        "constitute run run.yaml",
        "constitute status --run run",
    ]


def test_an_unknown_template_is_told_what_there_is(tmp_path):
    done = CliRunner().invoke(init, [str(tmp_path), "--template", "assistent"])
    assert str(done.exception) == "no such template: 'assistent'; did you mean 'assistant'?"


def test_help_names_every_template():
    said = CliRunner().invoke(init, ["--help"]).output
    assert [name for name in template_names() if name not in said] == []
