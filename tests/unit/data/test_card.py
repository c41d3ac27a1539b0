"""The card beside exported sets: the Hub reads its YAML, a person what made the data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from constitute.config import ExportConfig, RunConfig
from constitute.data.export import export_run
from constitute.store import Store
from constitute.store.manifest import write_manifest
from constitute.strict_yaml import parse_yaml
from constitute.types import (
    Comparison,
    Constitution,
    CritiqueRevision,
    LabelledPair,
    Message,
    Outcome,
    PreferenceLabel,
    Principle,
    PrincipleVote,
    Prompt,
    Response,
)

PROMPT = Prompt(id="p", messages=(Message(role="user", content="Hi ``` there"),))
LONG = "x" * 700


@pytest.fixture
def run(tmp_path) -> Path:
    vote = PrincipleVote(principle_id="kind", weight=1, p_ab=0.9, p_ba=0.3, mass_ab=1, mass_ba=1)
    label = LabelledPair(
        id="p/0-1",
        comparison=Comparison(id="p/0-1", prompt=PROMPT, a="left", b="right"),
        label=PreferenceLabel(p_a=0.6, votes=(vote,)),
    )
    step = CritiqueRevision(principle_id="kind", critique="no", revision=LONG)
    response = Response(id="p/0", prompt=PROMPT, sample=0, response="first", steps=(step,))
    constitution = Constitution(
        name="c",
        principles=(Principle(id="kind", text="Be *kind*.", critique="c", revise="r", compare="k"),),
    )
    with Store.open(tmp_path / "run") as store:
        for stage, row in (("revise", response), ("label", label)):
            store.put_outcome(stage, Outcome(row_id=row.id, position=0, status="ok", data=row.model_dump()))
        store.put_meta("stage:label", {"model": {"name": "judge-1b"}, "seed": 3})
        write_manifest(store, RunConfig(run=tmp_path / "run"), constitution)
    return tmp_path / "run"


def front(folder: Path) -> dict:
    text = (folder / "README.md").read_text()
    assert text.startswith("---\n")
    return parse_yaml(text.split("---\n")[1].encode(), "card").plain()


@pytest.mark.parametrize("name", ["jsonl", "parquet"])
def test_the_folder_is_a_data_set(run, tmp_path, name):
    datasets = pytest.importorskip("datasets")
    export_run(run, ExportConfig(format=name))
    # Somebody else's copy: nothing depends on where the run lies.
    folder = shutil.copytree(run / "export", tmp_path / "copy")
    cache = str(tmp_path / "cache")
    assert datasets.get_dataset_config_names(str(folder)) == ["preferences", "sft"]
    pairs = datasets.load_dataset(str(folder), cache_dir=cache)
    assert pairs["train"][0]["chosen"] == [{"role": "assistant", "content": "left"}]
    assert pairs["train"][0]["chosen_prob"] == 0.6
    sft = datasets.load_dataset(str(folder), "sft", split="train", cache_dir=cache)
    assert sft[0]["messages"][-1]["content"] == LONG and len(sft) == 1


def test_the_yaml_block_names_licence_and_the_latest_sets(run):
    export_run(run, ExportConfig(licence="cc-by-4.0"))
    sets = {"preferences": "preferences.jsonl", "sft": "sft.jsonl"}
    found = front(run / "export")
    assert found["license"] == "cc-by-4.0" and found["tags"] == ["constitute", "rlaif"]
    assert {each["config_name"]: each["data_files"][0]["path"] for each in found["configs"]} == sets
    assert [each.get("default") for each in found["configs"]] == [True, None]
    # One kind alone leaves the other set loadable; one loader cannot read sets of two kinds of file.
    export_run(run, ExportConfig(), kinds=("sft",))
    assert "license" not in front(run / "export") and len(front(run / "export")["configs"]) == 2
    export_run(run, ExportConfig(format="parquet"), kinds=("sft",))
    (only,) = front(run / "export")["configs"]
    assert only["config_name"] == "sft" and only["default"] is True


def test_the_card_says_who_judged_how_surely_and_by_what(run):
    export_run(run, ExportConfig())
    text = (run / "export" / "README.md").read_text()
    for part in (
        "- judged by: `judge-1b`",
        "- pairs: 1 labelled, 0 abstained, 0 failed",
        "- |2 P(A) - 1|, mean: 0.200",
        "- order flips, of votes: 1.000 (0.207 to 1.000, n = 1)",
        # -0.6 log2 0.6 - 0.4 log2 0.4
        "- entropy of P(A), bits, mean: 0.971 (0.000 to 1.000, n = 1)",
        "first 5 words: 1.000 (0.207 to 1.000, n = 1); `left`",
        ", `Be *kind*.`",
    ):
        assert part in text, part


def test_the_example_is_the_first_row_in_a_fence_that_its_text_cannot_end(run):
    export_run(run, ExportConfig())
    text = (run / "export" / "README.md").read_text()
    blocks = text.split("````json\n")[1:]
    shown = [json.loads(block.split("\n````\n")[0]) for block in blocks]
    assert [row["id"] for row in shown] == ["p/0", "p/0-1"]
    assert shown[0]["messages"][-1]["content"] == "x" * 600 + " … (100 characters more)"
    assert shown[1]["prompt"] == [{"role": "user", "content": "Hi ``` there"}]
