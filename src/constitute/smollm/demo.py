"""The whole loop on a real model of English, and how long each policy's answers to held-out prompts are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from constitute.blocking import block
from constitute.config import RunConfig, load_config
from constitute.data.prompts import read_prompts
from constitute.files import write_json
from constitute.loop import Loop, headline, open_loop, run_loop
from constitute.pipeline import drive
from constitute.progress import Progress
from constitute.report.build import write_report
from constitute.stages.base import Sample
from constitute.stages.generate import generate
from constitute.stats import Estimate, mean_of
from constitute.store import Store
from constitute.types import Prompt, Response

FOLDER = Path(__file__).parent
CONFIG, PROMPTS, HELD_OUT = (FOLDER / name for name in ("demo.yaml", "prompts.jsonl", "held_out.jsonl"))
SUMMARY_FILE = "summary.json"


def demo_config(constitution: str | None, out: Path, seed: int | None, sets: Sequence[str] = ()) -> RunConfig:
    """The configuration of `demo.yaml` with the run directory, and what else is given, in its place."""
    wanted = {"constitution": constitution, "run": str(out.resolve()), "seed": seed}
    return load_config(CONFIG, sets, {key: value for key, value in wanted.items() if value is not None})


def run_demo(config: RunConfig, progress: Progress) -> dict[str, Any]:
    """Run or continue the loop, measure each policy on held-out prompts, write summary and report."""
    training, _ = read_prompts(str(PROMPTS), limit=config.limit)
    held_out, _ = read_prompts(str(HELD_OUT), limit=config.limit)
    # A model this small is expected to earn verdicts; the demo shows what comes of them all the same.
    with open_loop(config, training, progress, force=True) as loop:
        found = run_loop(loop, until="evals")
        with loop.timed("measure"), Store.open(config.run) as store:
            words = {name: _words(loop, name, held_out, store) for name in loop.policies}
            example = next((row.row_id for row in store.outcomes("label", "ok")), None)
        summary: dict[str, Any] = to_jsonable_python(
            {
                "steps": headline(found, loop.seconds),
                "words": words,
                "gates": loop.gates,
                "example": example,
                "seconds": loop.seconds,
                "model": loop.sampler().identity.model_dump(mode="json"),
            }
        )
    write_json(config.run / SUMMARY_FILE, summary)
    write_report(config.run)
    return summary


def _words(loop: Loop, policy: str, prompts: Sequence[Prompt], store: Store) -> Estimate:
    """Mean number of words in the policy's answers to held-out prompts, sampled as in training."""
    loop.use(policy)
    stage = f"held-out/{policy}"

    async def answer(row: Prompt, sample: Sample) -> Response:
        return await generate(row, sample, loop.config.generate, 0)

    work = drive(
        stage,
        prompts,
        answer,
        engine=loop.sampler(),
        store=store,
        seed=loop.config.seed,
        in_flight=loop.config.engine.in_flight,
        progress=loop.progress,
        total=len(prompts),
        keep_truncated=loop.config.generate.keep_truncated,
    )
    block(work)
    rows = [Response.model_validate(outcome.data) for outcome in store.outcomes(stage, "ok")]
    return mean_of([float(len(row.response.split())) for row in rows], f"words {policy}")
