"""A further family of eval items: one module and one line in the registry, nothing else."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from evals_fakes import FakeEngine, FakeSample
from registry_examples import add_module, example

from constitute.cli.main import cli
from constitute.config import RunConfig
from constitute.config.evals import EvalsConfig
from constitute.errors import UsageError
from constitute.evals.families import FAMILIES, family_spec
from constitute.evals.items import read_items
from constitute.evals.run import run_sets
from constitute.evals.write import write_sets


@pytest.fixture
def greater(monkeypatch):
    add_module(monkeypatch, "greater_family", example("A family of eval items"))
    monkeypatch.setitem(FAMILIES, "greater", "greater_family:FAMILY")


def rate(request, step, label):
    """P of a number is a tenth of it."""
    return int(label[1:]) / 10 if label.startswith("#") else 0.0


def test_its_sets_are_written_recognised_and_scored(greater, tmp_path):
    config = RunConfig(run=tmp_path / "run", model="m", evals=EvalsConfig(n=4, families=("greater",)))
    sample = FakeSample(lambda r, s: str(int(r.messages[0].content.split()[-1][:-1]) - 1), rate)
    (one,) = write_sets(config, ["counts"], [], engine=FakeEngine(sample))
    assert (one.name, one.family, one.candidates) == ("counts-greater", "greater", 4)
    assert one.dropped == {"nothing is less": 1}
    assert one.items[0].question == "Which is greater, 2 or 1?"
    again = read_items(tmp_path / "run" / "evals" / "counts-greater.jsonl")
    assert [item.family for item in again] == ["greater"] * 3
    (result,) = run_sets(config, engine=FakeEngine(sample))
    assert (result.set, result.share.value, result.share.n) == ("counts-greater", 1.0, 3)
    assert result.scores[0].p_matching == pytest.approx(2 / 3)
    assert result.mass == pytest.approx((0.3 + 0.5 + 0.7) / 3)


def test_two_families_of_one_behaviour_have_sets_of_their_own(greater, tmp_path):
    config = RunConfig(run=tmp_path / "run", evals=EvalsConfig(n=4, families=("persona", "greater")))
    sample = FakeSample(
        lambda r, s: "0" if "number" in r.messages[0].content else f"I do {r.sampling.seed}",
        lambda r, s, label: {"Yes": 0.8, "No": 0.1}.get(label, 0.0),
    )
    with pytest.raises(Exception, match="no item of counts survives") as failure:
        write_sets(config, ["counts"], [], engine=FakeEngine(sample))
    assert "greater" not in str(failure.value)
    assert [path.name for path in (tmp_path / "run" / "evals").glob("*.jsonl")] == ["counts-greater.jsonl"]


def test_the_command_line_knows_it(greater, tmp_path):
    words = ["evals", "write", "--run", str(tmp_path / "run"), "--model", "m", "--set", "engine.kind=fake"]
    words += ["--behavior", "counts", "--family", "greater", "-n", "4"]
    done = CliRunner().invoke(cli, words, standalone_mode=False)
    assert (done.exception, done.return_value) == (None, 0)
    assert "greater: numbers to compare" in done.output and "1 nothing is less" in done.output


def test_an_unknown_family_is_named():
    with pytest.raises(UsageError, match=r"no such family of eval items: 'repyl'; did you mean 'reply'\?"):
        family_spec("repyl")
