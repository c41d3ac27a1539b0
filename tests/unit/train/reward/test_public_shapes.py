"""Pairs of public shapes become rows that a reward model trains on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from public_shapes import CASES, Case

from constitute.config.train import RewardConfig
from constitute.data.pairs import read_preferences
from constitute.engines.render import Renderer
from constitute.engines.tokenizer import load_tokenizer, turn_ends
from constitute.packaged import model_path
from constitute.train.reward.pairs import split_pairs, target


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    path = model_path("pocket")
    tokenizer = load_tokenizer(path)
    return Renderer(tokenizer, path, turn_ends(path, tokenizer))


@pytest.mark.parametrize("case", [case for case in CASES if case.preferred], ids=lambda case: case.family)
def test_a_shape_is_training_rows(tmp_path: Path, renderer: Renderer, case: Case) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in case.rows), encoding="utf-8")
    settings = RewardConfig(held_out=0.0, max_length=4096)
    split = split_pairs(read_preferences(file, lambda text: None), renderer, settings, seed=0)
    assert len(split.train) == len(case.preferred) and not split.held_out
    for row, (chosen, rejected, prob) in zip(split.train, case.preferred, strict=True):
        assert (row.row.chosen, row.row.rejected) == (chosen, rejected)
        assert row.chosen[: row.prompt_length] == row.rejected[: row.prompt_length]
        assert target(row.row.chosen_prob, "soft") == prob
        assert row.chosen != row.rejected
