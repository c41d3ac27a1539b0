"""The demo: the whole loop on the embedded model, then the oracle's reading of every policy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from constitute.blocking import block
from constitute.config import RunConfig, load_config
from constitute.constitution.identity import constitution_hash
from constitute.constitution.read import load_constitution
from constitute.errors import UsageError
from constitute.evals.kinds import kind_changes, results_pairs
from constitute.evals.run import load_results
from constitute.files import write_json
from constitute.loop import POLICIES, Loop, open_loop, run_loop
from constitute.pipeline import drive
from constitute.pocket import world
from constitute.pocket.measure import label_shares, policy_shares
from constitute.progress import Progress
from constitute.report.build import write_report
from constitute.stages.base import Sample
from constitute.stages.generate import generate
from constitute.stats import Estimate, share_of
from constitute.store import Store
from constitute.store.manifest import versions
from constitute.types import Prompt, Response

CONFIG = Path(__file__).with_name("demo.yaml")
SUMMARY_FILE = "summary.json"
TRAIN_PROMPTS = 800
HELD_OUT_EACH = 250


def demo_config(constitution: str, out: Path, seed: int | None, sets: Sequence[str] = ()) -> RunConfig:
    """The demo's configuration with the constitution, the run directory and the seed in their places.

    Raises `UsageError` for a `train.method` without PPO, whose figures the demo shows.
    """
    wanted = {"constitution": constitution, "run": str(out.resolve()), "seed": seed}
    config = load_config(CONFIG, sets, wanted)
    if "ppo" not in config.train.method:
        raise UsageError(
            f"the demo shows what PPO does and train.method is {list(config.train.method)}; leave ppo in it, "
            "or use `constitute run` with a run.yaml"
        )
    return config


def run_demo(config: RunConfig, progress: Progress, prompts: int = TRAIN_PROMPTS) -> dict[str, Any]:
    """Run or continue the loop, measure each policy on held-out prompts, write summary and report."""
    training = [p.as_prompt() for p in world.prompts("train", kind="mixed", n=prompts, seed=config.seed)]
    held_out = [
        prompt
        for kind in ("harmful", "harmless")
        for prompt in world.prompts("test", kind=kind, n=HELD_OUT_EACH, seed=config.seed)  # type: ignore[arg-type]
    ]
    # The demo measures every policy against the oracle, whatever the labels are worth.
    with open_loop(config, training, progress, force=True) as loop:
        run_loop(loop, until="evals")
        with loop.timed("measure"), Store.open(config.run) as store:
            policies = {name: _measure(loop, name, held_out, store) for name in loop.policies}
            summary = summarise(loop, policies, store)
    write_json(config.run / SUMMARY_FILE, summary)
    write_report(config.run)
    return summary


def evals_changes(config: RunConfig) -> list[dict[str, Any]]:
    """What each policy changed on targets and on controls, against the base model, in figures and words."""
    order = {name: at for at, name in enumerate(("base", *POLICIES))}
    results = sorted(load_results(config.run), key=lambda one: order.get(one.policy, len(order)))
    changes = kind_changes(results_pairs(results), config.evals)
    return [{**one.model_dump(mode="json"), "sentence": one.sentence} for one in changes]


def _measure(
    loop: Loop, policy: str, prompts: Sequence[world.PocketPrompt], store: Store
) -> dict[str, Estimate]:
    """The policy's replies to held-out prompts, sampled as in training, read by the oracle."""
    loop.use(policy)
    stage = f"held-out/{policy}"

    async def answer(row: Prompt, sample: Sample) -> Response:
        return await generate(row, sample, loop.config.generate, 0)

    work = drive(
        stage,
        [prompt.as_prompt() for prompt in prompts],
        answer,
        engine=loop.sampler(),
        store=store,
        seed=loop.config.seed,
        in_flight=loop.config.engine.in_flight,
        progress=loop.progress,
        total=len(prompts),
    )
    block(work)
    return policy_shares(store.outcomes(stage), prompts)


def summarise(loop: Loop, policies: dict[str, dict[str, Estimate]], store: Store) -> dict[str, Any]:
    """Everything the demo found, as JSON-ready values."""
    constitution = load_constitution(str(loop.config.constitution), loop.config.tags)
    ppo, reward = loop.found["ppo"], loop.found["reward"]
    found = {
        "policies": policies,
        "labels": label_shares(store.outcomes("label"), constitution),
        "reward_model": {"accuracy": reward["held_out"].get("accuracy", share_of(0, 0))},
        "ppo": {"reward_before": ppo["reward_before"], "reward_after": ppo["reward_after"], "kl": ppo["kl"]},
        "evals": loop.found["evals"],
        "evals_changes": evals_changes(loop.config),
        "counts": {stage: store.counts(stage) for stage in loop.config.chain},
        "seconds": loop.seconds,
        "seed": loop.config.seed,
        "example": next((row.row_id for row in store.outcomes("label", "ok")), None),
        "constitution": {"name": constitution.name, "hash": constitution_hash(constitution)},
        "model": loop.sampler().identity.model_dump(mode="json"),
        "versions": versions(),
    }
    values: dict[str, Any] = to_jsonable_python(found)
    return values
