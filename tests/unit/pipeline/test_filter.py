"""The stage `filter` in a chain and by its own command: no model, nothing lost, every reason counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from scripted import ScriptedEngine, constitution, prompt

from constitute.cli.main import cli
from constitute.config import load_config
from constitute.config.load import load_for_run
from constitute.constitution.write import to_yaml
from constitute.errors import UsageError
from constitute.pipeline import run_stages
from constitute.stages.filters import FILTERS
from constitute.stages.filters.base import RowFilter
from constitute.store import Store

ODD = "the text begins with an odd word"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A filter that removes texts of an odd number of letters."""
    odd = RowFilter("odd", lambda found, cfg, shown: ODD if len(found.text) % 2 else "")
    monkeypatch.setitem(FILTERS, "odd", odd)  # type: ignore[arg-type]
    file = tmp_path / "c.yaml"
    file.write_text(to_yaml(constitution()), encoding="utf-8")
    return [f"constitution={file}", f"run={tmp_path / 'run'}", "generate.n=2", "label.pairs=both"]


CHAIN = "chain=[generate, revise, filter, label]"
GIVEN = [prompt(f"p{at}") for at in range(20)]


def test_a_removed_row_abstains_and_its_revision_is_not_labelled(settings: list[str], tmp_path: Path) -> None:
    config = load_config(None, [*settings, CHAIN, "filter.use=[odd]"])
    engine = ScriptedEngine()
    counts = run_stages(config, config.chain, prompts=GIVEN, engine=engine)
    with Store.open(tmp_path / "run", readonly=True) as store:
        final = {
            row.row_id: row.data["steps"][-1]["revision"] for row in store.outcomes("revise") if row.data
        }
        removed = {row.row_id for row in store.outcomes("filter", "abstain")}
        assert store.reasons("filter") == [("abstain", f"removed by odd: {ODD}", len(removed))]
        labelled = {row.row_id for row in store.outcomes("label")}
    assert removed == {name for name, text in final.items() if len(text) % 2}
    assert 0 < len(removed) < 40 and counts["filter"].total == 40 and counts["filter"].asked == 0
    # Pairs of samples are taken before the revision, so they stay.
    assert labelled == {f"{name}-rev" for name in final.keys() - removed} | {f"p{n}/0-1" for n in range(20)}


def test_the_command_needs_no_model_and_goes_on(settings: list[str], tmp_path: Path) -> None:
    config = load_config(None, [*settings, "model=gone-from-this-disk"])
    run_stages(config, ["generate", "revise"], prompts=GIVEN, engine=ScriptedEngine())
    run = str(tmp_path / "run")
    done = CliRunner().invoke(cli, ["filter", "--run", run, "--use", "odd", "--limit", "3", "--json"])
    assert done.exit_code == 0, done.output
    first = json.loads(done.stdout.splitlines()[-1])
    done = CliRunner().invoke(cli, ["filter", "--run", run, "--use", "odd", "--json"])
    every = json.loads(done.stdout.splitlines()[-1])
    assert first["ok"] + first["abstain"] == every["resumed"] > 0
    assert every["ok"] + every["abstain"] == 40 and every["asked"] == 0
    assert every["reasons"] == [
        {"status": "abstain", "rows": every["abstain"], "reason": f"removed by odd: {ODD}"}
    ]
    kept = load_for_run(tmp_path / "run", None, (), {})
    assert kept.chain == ("generate", "revise", "filter", "label") and kept.filter.use == ("odd",)
    status = CliRunner().invoke(cli, ["status", "--run", run])
    assert f"removed by odd: {ODD}" in status.output
    # Other settings begin again, and the first ones once more.
    other = CliRunner().invoke(cli, ["filter", "--run", run, "--use", "unchanged", "--json"])
    again = json.loads(other.stdout.splitlines()[-1])
    assert (again["ok"], again["abstain"], again["resumed"]) == (40, 0, 0)
    back = CliRunner().invoke(cli, ["filter", "--run", run, "--use", "odd", "--json"])
    assert json.loads(back.stdout.splitlines()[-1]) == every | {"resumed": 0}
    labelled = run_stages(
        load_config(None, [*settings, CHAIN, "filter.use=[odd]"]), ["label"], engine=ScriptedEngine()
    )
    assert labelled["label"].total == every["ok"] + 20


def test_a_dry_run_counts_each_filter_by_itself_and_writes_nothing(
    settings: list[str], tmp_path: Path
) -> None:
    config = load_config(None, settings)
    run_stages(config, ["generate", "revise"], prompts=GIVEN, engine=ScriptedEngine())
    run = str(tmp_path / "run")
    given = ["filter", "--run", run, "--use", "odd", "--use", "unchanged", "--dry-run"]
    told = json.loads(CliRunner().invoke(cli, [*given, "--json"]).stdout)
    with Store.open(tmp_path / "run", readonly=True) as store:
        texts = {
            row.row_id: row.data["steps"][-1]["revision"] for row in store.outcomes("revise") if row.data
        }
        assert store.stages() == ["generate", "revise"]
    odd = [name for name, text in texts.items() if len(text) % 2]
    assert told == {
        "event": "result",
        "rows": 40,
        "found": {"odd": odd, "unchanged": []},
        "together": len(odd),
    }
    seen = CliRunner().invoke(cli, given)
    assert f"together they would remove {len(odd)} of 40 rows; nothing was written" in seen.output


def test_files_and_words_that_filters_compare_with_are_settings(settings: list[str], tmp_path: Path) -> None:
    phrases = tmp_path / "phrases.txt"
    phrases.write_text("kettle\n")
    more = [*settings, CHAIN, "filter.use=[refusal]", f"filter.refusals={phrases}"]
    run_stages(load_config(None, more), ["generate", "revise"], prompts=GIVEN, engine=ScriptedEngine())
    counts = run_stages(load_config(None, more), ["filter"])
    assert 0 < counts["filter"].abstain < 40
    other = tmp_path / "others.txt"
    other.write_text("bridge\n")
    again = run_stages(load_config(None, [*more, f"filter.refusals={other}"]), ["filter"])
    assert again["filter"].resumed == 0 and again["filter"].abstain != counts["filter"].abstain
    assert (
        run_stages(load_config(None, [*more, f"filter.refusals={other}"]), ["filter"])["filter"].resumed == 40
    )
    with pytest.raises(UsageError, match="no such filter or preset: 'refusals'"):
        run_stages(load_config(None, [*settings, CHAIN, "filter.use=[refusals]"]), ["filter"])
