"""`constitute train ppo` on the embedded model with prompts mixed from two files and others held out."""

import json
import sys

import pytest

pytest.importorskip("torch")
from e2e.train.test_rewards import FUNCTIONS, MODULE, REWARDS, lines, train

from constitute.errors import UsageError

SETS = (
    'train.ppo.mix=[{"file": "helpful.jsonl", "share": 0.25}]', "train.ppo.held_out=held.jsonl",
    "train.ppo.held_out_every=1", "train.ppo.score_norm=running", "train.ppo.ema=0.9",
    "train.ppo.length_penalty=0.01",
)  # fmt: skip


def write(path, what, count):
    rows = [{"id": f"p{number}", "prompt": f"{what} {number}?"} for number in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_command_mixes_files_and_measures_on_others(tmp_path, monkeypatch):
    folder = tmp_path
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.path", list(sys.path))
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    (folder / f"{MODULE}.py").write_text(FUNCTIONS, encoding="utf-8")
    write(folder / "prompts.jsonl", "How do I mend kettle", 3)
    write(folder / "helpful.jsonl", "What is the use of kettle", 5)
    write(folder / "held.jsonl", "Who made kettle", 4)
    sets = [word for text in SETS for word in ("--set", text)]
    summary = train("--prompts", "prompts.jsonl", "--out", "policy", *REWARDS, *sets)
    metrics, held = lines(folder / "policy" / "metrics.jsonl"), lines(folder / "policy" / "held_out.jsonl")
    for line in metrics:
        assert (line["source/prompts/n"], line["source/helpful/n"]) == (3, 1)
        both = (3 * line["source/prompts/reward"] + line["source/helpful/reward"]) / 4
        assert both == pytest.approx(line["reward"])
    assert [row["iteration"] for row in held] == [0, 1, 2]
    # The prompts of one file only are called p0 and earn `first`; here that is one of four.
    assert all(row["parts"]["first"] == [1.0, 0.0, 0.0, 0.0] for row in held)
    assert metrics[1]["held_out/reward/first"] == 0.25
    assert metrics[1]["held_out/reward"] == pytest.approx(0.5 * sum(held[2]["parts"]["length"]) / 4)
    assert (summary["prompts"], summary["held_out"]["prompts"], summary["held_out_too_long"]) == (8, 4, 0)
    assert (folder / "policy" / summary["ema"] / "config.json").is_file()
    with pytest.raises(UsageError, match=r"train\.ppo\.stop_on names gold, and the parts .* are length"):
        train("--prompts", "prompts.jsonl", "--out", "x", *REWARDS, *sets, "--set", "train.ppo.stop_on=gold")
