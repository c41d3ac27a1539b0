"""The demo's second act: PPO driven too far, with the oracle watching, and the checkpoint to ship."""

from __future__ import annotations

from typing import Any

from constitute.config.ppo import RewardSource
from constitute.constitution.read import load_constitution
from constitute.loop import Loop
from constitute.pocket.measure import axes_of
from constitute.report.overopt import page_of, write_overopt
from constitute.train.overopt.run import Overopt, measure_overopt
from constitute.train.ppo.start import run_ppo

FOLDER = "ppo-too-far"
PAGE = "overopt.html"
# What goes too far: next to nothing holds the policy near the model it started from, and steps three times as
# long that never shrink. With the demo's own steps and 12 iterations the oracle's reward did not fall.
TOO_FAR: dict[str, Any] = {
    "kl_coef": 0.005,
    "ptx_coef": 0.0,
    "learning_rate": 3e-4,
    "schedule": "constant",
    "iterations": 20,
    "checkpoint_every": 2,
    "keep_policies": True,
}


def drive_too_far(loop: Loop) -> dict[str, Any]:
    """Train a second policy from RUN/sft into RUN/ppo-too-far, and compare its reward with the oracle's.

    Kept policies and the page RUN/overopt.html are written. Returns what `train overopt` finds, as JSON-ready
    values, with the settings that went too far and the page.
    """
    config, run = loop.config, loop.config.run
    gold = gold_source(str(config.constitution), config.tags)
    settings = config.train.ppo.model_copy(update=TOO_FAR)
    train = config.train.model_copy(update={"ppo": settings})
    loop.loaded = "in training"
    run_ppo(
        config.model_copy(update={"train": train}),
        list(loop.prompts),
        reward=[
            RewardSource(source=str(run / "reward")),
            RewardSource(source=gold, weight=0.0, name="oracle"),
        ],
        out=run / FOLDER,
        engine=loop.sampler(),
        progress=loop.progress,
        force=True,
    )
    found = measure_overopt(run, ppo=[run / FOLDER], gold="oracle", seed=config.seed)
    page = write_overopt(page_of(found, run.name), run / PAGE)
    said = [*found.sentences, *_turned(found)]
    return {**found.model_dump(mode="json"), "said": said, "settings": TOO_FAR, "page": str(page)}


def gold_source(constitution: str, tags: tuple[str, ...] = ()) -> str:
    """The oracle's reward for what the constitution speaks of first."""
    return f"constitute.pocket.gold:{axes_of(load_constitution(constitution, tags))[0]}"


def _turned(found: Overopt) -> list[str]:
    """That nothing fell, where nothing did; `found` says so only by its silence."""
    if any(one.advice is not None and one.advice.falls is not None for one in found.series):
        return []
    return [
        "no over-optimisation is shown: the oracle's reward does not fall beyond chance while the proxy rises"
    ]
