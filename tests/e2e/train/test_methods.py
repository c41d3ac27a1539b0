"""`constitute run` with DPO and best of n beside PPO: what is trained, scored and kept on a second run."""

from __future__ import annotations

import pytest

from constitute.config import RunConfig
from constitute.engines.swap import load_folder
from constitute.loop import Loop, run_loop
from constitute.pocket import world

pytestmark = pytest.mark.long


@pytest.fixture
def engine(transformers_engine, model_folder):
    yield transformers_engine
    load_folder(transformers_engine, str(model_folder))


def settings(model_folder, run, method):
    small = {"epochs": 1, "learning_rate": 1e-4, "batch_size": 4, "max_length": 512}
    return RunConfig.model_validate(
        {
            "model": str(model_folder),
            "constitution": "pocket/harmless",
            "run": run,
            "engine": {"kind": "transformers", "date": "2026-11-26"},
            "generate": {"n": 2, "max_tokens": 96, "temperature": 0.8, "keep_truncated": True},
            "revise": {"max_tokens": 96, "temperature": 0.0, "keep_truncated": True},
            "label": {"pairs": "both"},
            "train": {
                "method": method,
                "sft": small,
                "reward": small,
                "dpo": small,
                "grpo": {
                    "iterations": 1,
                    "batch_size": 4,
                    "samples_per_prompt": 2,
                    "max_new_tokens": 96,
                    "temperature": 0.8,
                },
                "best_of_n": {"n": 2, "max_new_tokens": 96, "temperature": 0.8},
            },
            "evals": {"principles": ["no-help-acts-cruelty"], "n": 2, "max_unparsed": 1.0},
        }
    )


def test_dpo_then_best_of_n_and_every_policy_is_scored(tmp_path, model_folder, engine):
    prompts = [p.as_prompt() for p in world.prompts("train", kind="mixed", n=8, seed=0)]

    def go(method, until):
        loop = Loop(settings(model_folder, tmp_path / "run", method), prompts, engine, force=True)
        # The session's engine may hold what an earlier call left in it.
        loop.loaded = "unknown"
        return loop, run_loop(loop, until)

    loop, first = go("dpo", "dpo")
    assert set(loop.policies) == {"base", "sft", "dpo"} and "reward" not in first
    assert first["dpo"]["steps"] > 0
    # More methods on the same run: what is finished is kept, its seconds among it.
    loop, found = go(["dpo", "best_of_n", "grpo"], "evals")
    assert (found["sft"], found["dpo"]) == (first["sft"], first["dpo"])
    assert list(loop.policies) == ["base", "sft", "grpo", "dpo", "best-of-n-sft"]
    best = found["best-of-n"]
    assert best["reward"]["best of 2"]["value"] >= best["reward"]["best of 1"]["value"]
    assert best["sft"]["rows"] == best["prompts"] - best["prompts_failed"]
    scored = [set(parts) - {"items"} for parts in found["evals"].values() if parts["items"]]
    assert scored and all(names == set(loop.policies) for names in scored)
    assert found["grpo"]["critic_from"] == "none: grpo needs no critic"
    card = (tmp_path / "run" / "grpo" / "README.md").read_text(encoding="utf-8")
    assert "a policy trained by GRPO" in card
    assert go(["dpo", "best_of_n"], "best-of-n")[1]["best-of-n"] == best
