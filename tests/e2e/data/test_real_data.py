"""The data stages over real prompts and the published principles: every row ends, and the counts add up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from places import SHARED

from constitute.config import ExportConfig, RunConfig, load_config
from constitute.constitution.formats.convert import import_constitution
from constitute.constitution.write import to_yaml
from constitute.data.export import export_run
from constitute.data.prompts import read_prompts
from constitute.engines.base import Engine
from constitute.pipeline import Counts, run_stages
from constitute.store import Store
from constitute.train.reward.train import run_reward
from constitute.train.sft import run_sft

PROMPTS = SHARED / "hh-rlhf" / "harmless-base-test-even.jsonl.gz"
PRINCIPLES = [
    SHARED / "cai" / name for name in ("CritiqueRevisionInstructions.json", "RLMadisonInstructions.json")
]
STAGES = ("generate", "revise", "label")


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    """Real prompts and principles; the embedded model's answers will be poor, the counts must not be."""
    for path in (PROMPTS, *PRINCIPLES):
        if not path.exists():
            pytest.skip(f"no {path}: the real data is not at hand")
    constitution, _ = import_constitution(PRINCIPLES)
    (tmp_path / "cai.yaml").write_text(to_yaml(constitution))
    sets = ["generate.max_tokens=48", "revise.max_tokens=48", "label.min_mass=0.01", "label.pairs=revision"]
    sets += [f"run={tmp_path / 'run'}", f"constitution={tmp_path / 'cai.yaml'}", f"prompts={PROMPTS}"]
    sets += ["train.sft.max_length=512", "train.reward.max_length=512", "train.sft.epochs=1"]
    return load_config(None, sets)


def run(config: RunConfig, engine: Engine | None, limit: int | None) -> dict[str, Counts]:
    prompts, bad = read_prompts(PROMPTS, limit=limit)
    assert bad == []
    assert len(prompts) == (limit or 1156)
    return run_stages(config, STAGES, prompts=prompts, engine=engine)


def check(config: RunConfig, counts: dict[str, Counts], rows: int) -> None:
    """Every row ended with data or a reason; each stage's input is the ok rows of the one before."""
    assert counts["generate"].total == rows
    assert counts["revise"].total == counts["generate"].ok
    assert counts["label"].total == counts["revise"].ok
    with Store.open(config.run, readonly=True) as store:
        for stage in STAGES:
            assert sum(store.counts(stage).values()) == counts[stage].total
            for outcome in store.outcomes(stage):
                assert (outcome.data is not None) == (outcome.status == "ok") == (outcome.reason is None)
        figures = {stage: (store.counts(stage), store.reasons(stage)[:5]) for stage in STAGES}
    print(json.dumps(figures, indent=1))


def check_exports(config: RunConfig, counts: dict[str, Counts]) -> None:
    """Both sets load with `datasets`, and TRL's trainers take every row or count it as too long."""
    from datasets import load_dataset

    kinds = [kind for kind, stage in (("sft", "revise"), ("preferences", "label")) if counts[stage].ok]
    exported: list[Any] = export_run(config.run, ExportConfig(), kinds=kinds)  # type: ignore[arg-type]
    for part in exported:
        lines = part.path.read_text().splitlines()
        assert len(lines) == part.rows and all(json.loads(line) for line in lines)
        rows = load_dataset(
            "json", data_files=str(part.path), split="train", cache_dir=str(config.run / "cache")
        )
        assert rows.num_rows == part.rows
    trained = config.model_copy(update={"model": "pocket"})
    sft = run_sft(trained)
    assert sft["rows"] + sft["rows_too_long"] == exported[0].rows and sft["steps"] >= 1
    if len(exported) > 1:
        reward = run_reward(trained)
        taken = reward["pairs"] + reward["pairs_held_out"] + reward["pairs_too_long"]
        assert taken == exported[1].rows and reward["steps"] >= 1


@pytest.mark.vllm
@pytest.mark.timeout(900)
def test_120_real_prompts(config: RunConfig, vllm_engine: Engine) -> None:
    counts = run(config, vllm_engine, 120)
    check(config, counts, 120)
    check_exports(config, counts)
    again = run(config, vllm_engine, 120)
    assert all(count.asked == 0 and count.resumed == count.total for count in again.values())


@pytest.mark.vllm
@pytest.mark.long
@pytest.mark.timeout(3600)
def test_all_1156_real_prompts(config: RunConfig, vllm_engine: Engine) -> None:
    counts = run(config, vllm_engine, None)
    check(config, counts, 1156)
    check_exports(config, counts)


@pytest.mark.vllm
@pytest.mark.long
@pytest.mark.timeout(3600)
def test_real_prompts_over_http(config: RunConfig, vllm_server_url: str) -> None:
    served = config.model_copy(update={"model": vllm_server_url})
    counts = run(served, None, None)
    check(served, counts, 1156)
    check_exports(served, counts)
