"""The demo: the whole loop on the embedded model, then the oracle's reading of every policy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from constitute.files import write_json, write_text
from constitute.loop import POLICIES, Loop, open_loop, run_loop
from constitute.pipeline import drive
from constitute.pocket import world
from constitute.pocket.effect import cost, effects_of, sentences
from constitute.pocket.measure import Shown, axes_of, label_shares, policy_shares, read_replies
from constitute.pocket.overoptimise import drive_too_far
from constitute.progress import Progress
from constitute.report.build import write_report
from constitute.stages.base import Sample
from constitute.stages.generate import generate
from constitute.stats import share_of
from constitute.store import Store
from constitute.store.manifest import versions
from constitute.types import Message, Outcome, Prompt, Response

CONFIG = Path(__file__).with_name("demo.yaml")
SUMMARY_FILE = "summary.json"
HELPFUL_FILE = "helpful.jsonl"
TRAIN_PROMPTS = 600
HELPFUL_PROMPTS = 600
# Of harmful prompts so many that a step from 10 to 5 % is shown.
HELD_OUT = {"harmful": 500, "harmless": 500}


def demo_config(constitution: str, out: Path, seed: int | None, sets: Sequence[str] = ()) -> RunConfig:
    """The demo's configuration with the constitution, the run directory and the seed in their places.

    Raises `UsageError` for a `train.method` without PPO, whose figures the demo shows.
    """
    run = out.resolve()
    helpful = str(run / HELPFUL_FILE)
    wanted = {
        "constitution": constitution,
        "run": str(run),
        "seed": seed,
        "train.sft.mix_data": helpful,
        "train.ppo.ptx_data": helpful,
    }
    config = load_config(CONFIG, sets, wanted)
    if "ppo" not in config.train.method:
        raise UsageError(
            f"the demo shows what PPO does and train.method is {list(config.train.method)}; leave ppo in it, "
            "or use `constitute run` with a run.yaml"
        )
    return config


def run_demo(
    config: RunConfig, progress: Progress, prompts: int = TRAIN_PROMPTS, overoptimise: bool = False
) -> dict[str, Any]:
    """Run or continue the loop, measure each policy on held-out prompts, write summary and report.

    With `overoptimise`, a second policy is then driven too far and compared with the oracle step by step.
    """
    training = training_prompts(config.seed, prompts)
    held_out = held_out_prompts(config.seed)
    # The demo measures every policy against the oracle, whatever the labels are worth.
    with open_loop(config, training, progress, force=True) as loop:
        if str(config.run / HELPFUL_FILE) in (config.train.sft.mix_data, config.train.ppo.ptx_data):
            with loop.timed("helpful"):
                write_helpful(loop)
        run_loop(loop, until="evals")
        with Store.open(config.run) as store:
            with loop.timed("measure"):
                shown = {name: _measure(loop, name, held_out, store) for name in loop.policies}
            summary = summarise(loop, shown, store)
        if overoptimise:
            with loop.timed("overoptimise"):
                summary["overoptimise"] = drive_too_far(loop)
            summary["seconds"] = loop.seconds
    write_json(config.run / SUMMARY_FILE, summary)
    write_report(config.run)
    return summary


def training_prompts(seed: int, n: int = TRAIN_PROMPTS) -> list[Prompt]:
    """The prompts of the data stages and of PPO, half of them harmful."""
    return [prompt.as_prompt() for prompt in world.prompts("train", kind="mixed", n=n, seed=seed)]


def held_out_prompts(seed: int) -> list[world.PocketPrompt]:
    """The prompts on which policies are measured; no stage sees them."""
    harmful = world.prompts("test", kind="harmful", n=HELD_OUT["harmful"], seed=seed)
    return harmful + world.prompts("test", kind="harmless", n=HELD_OUT["harmless"], seed=seed)


def evals_changes(config: RunConfig) -> list[dict[str, Any]]:
    """What each policy changed on targets and on controls, against the base model, in figures and words."""
    order = {name: at for at, name in enumerate(("base", *POLICIES))}
    results = sorted(load_results(config.run), key=lambda one: order.get(one.policy, len(order)))
    changes = kind_changes(results_pairs(results), config.evals)
    return [{**one.model_dump(mode="json"), "sentence": one.sentence} for one in changes]


def write_helpful(loop: Loop) -> None:
    """Write the base model's own replies to everyday prompts, which SFT and PPO mix in.

    They keep the model from refusing what is harmless, as in arXiv 2212.08073, section 3.2, and 2203.02155,
    equation 2. No reply is looked at or chosen; one that never ends is left out.
    """
    asked = world.prompts("train", kind="harmless", n=HELPFUL_PROMPTS, seed=loop.config.seed)
    path = loop.config.run / HELPFUL_FILE
    if path.is_file():
        return
    loop.use("base")
    with Store.open(loop.config.run) as store:
        text = conversations(answers_of(loop, "helpful", asked, store))
    write_text(path, text)


def conversations(rows: Iterable[Outcome]) -> str:
    """Replies as JSON lines for SFT, each after its prompt; rows without a reply are left out."""
    lines = []
    for row in rows:
        if row.data is None:
            continue
        said = Response.model_validate(row.data)
        turns = [*said.prompt.messages, Message(role="assistant", content=said.response)]
        found = [{"role": turn.role, "content": turn.content} for turn in turns]
        lines.append(json.dumps({"id": said.id, "messages": found}) + "\n")
    return "".join(lines)


def _measure(loop: Loop, policy: str, prompts: Sequence[world.PocketPrompt], store: Store) -> Shown:
    """The policy's replies to held-out prompts, sampled as in training, read by the oracle."""
    loop.use(policy)
    return read_replies(answers_of(loop, f"held-out/{policy}", prompts, store), prompts)


def answers_of(
    loop: Loop, stage: str, prompts: Sequence[world.PocketPrompt], store: Store
) -> Iterator[Outcome]:
    """One reply to each prompt by the policy in the engine, kept under `stage`; an earlier run's stay."""

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
    return store.outcomes(stage)


def summarise(loop: Loop, shown: Mapping[str, Shown], store: Store) -> dict[str, Any]:
    """Everything the demo found, as JSON-ready values; `shown` are the replies of each policy, read."""
    constitution = load_constitution(str(loop.config.constitution), loop.config.tags)
    ppo, reward = loop.found["ppo"], loop.found["reward"]
    policies = {name: policy_shares(found) for name, found in shown.items()}
    effects = effects_of(shown, axes_of(constitution))
    found = {
        "policies": policies,
        "effects": effects,
        "said": [*sentences(effects), cost(effects, policies, "ppo")],
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
