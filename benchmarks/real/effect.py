"""Does one plain principle, judged by likelihood, move a real model of 135 M parameters?

    python -m benchmarks real.effect [--principle brief|listed] [--samples N] [--epochs E] [--per token|sum]
        [--prompts N] [--set KEY=VALUE] [--run DIR] [--reuse DIR/run]

64 prompts are answered N times, `likelihood` labels the pairs under the principle alone, DPO trains on them,
and both models answer 32 held-out prompts twice. The measure is what the principle asks for: words in an
answer for `brief`, numbered lines in one for `listed`. Its change is paired by prompt, with a bootstrap
interval over the prompts.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from constitute.blocking import block
from constitute.config import RunConfig, load_config
from constitute.constitution.write import to_yaml
from constitute.data.export import export_run
from constitute.data.prompts import read_prompts
from constitute.data.reviews import reviewed_card
from constitute.engines.swap import load_folder, open_sampler
from constitute.packaged import model_path
from constitute.pipeline import drive, run_stages
from constitute.progress import open_progress
from constitute.smollm.demo import HELD_OUT, PROMPTS
from constitute.stages.base import Sample
from constitute.stages.generate import generate, slot
from constitute.stats import mean_of
from constitute.store import Store
from constitute.train.dpo import run_dpo
from constitute.types import Constitution, Principle, Prompt, Response

SETTINGS = """
model: smollm2
engine: {in_flight: 64, context_length: 1024, kv_cache_gib: 2.0}
chain: [generate, label]
generate: {max_tokens: 128, temperature: 0.8, keep_truncated: true}
label: {method: likelihood, principles: all}
train: {dpo: {batch_size: 16, learning_rate: 0.00001, held_out: 0.0, max_length: 512}}
"""
# Principle -> (its text, its measure, and the name of that).
PRINCIPLES: dict[str, tuple[str, Callable[[str], float], str]] = {
    "brief": ("Answer in one short sentence.", lambda text: float(len(text.split())), "words"),
    "listed": (
        "Answer with a numbered list.",
        lambda text: float(len(re.findall(r"^\s*\d+[.)] ", text, re.M))),
        "numbered lines",
    ),
}


def main(arguments: Sequence[str]) -> None:
    """Print the label card's figures and the measure before and after, and its change."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks real.effect")
    parser.add_argument("--principle", choices=PRINCIPLES, default="brief")
    parser.add_argument("--samples", type=int, default=6)
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--per", choices=("token", "sum"), default="token")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--reuse", type=Path, help="another run of the same, whose answers are used again")
    parser.add_argument("--run", type=Path)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = given.run or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        measure(given, folder)


def measure(given: Any, folder: Path) -> None:
    """Generate, label, train by DPO, answer held-out prompts with both models, and print."""
    text, value, what = PRINCIPLES[given.principle]
    config = _config(folder, given, text)
    start = time.monotonic()
    with open_progress(False) as progress:
        prompts, _ = read_prompts(str(PROMPTS), limit=given.prompts)
        held_out, _ = read_prompts(str(HELD_OUT))
        engine = open_sampler(str(config.model), config.engine)
        run_stages(config, config.chain, prompts=prompts, engine=engine, progress=progress)
        export_run(config.run, config.export)
        trained = run_dpo(config, model=model_path("smollm2"), progress=progress, force=True)
        with Store.open(config.run) as store:
            card = reviewed_card(store)
            folders = {"base": model_path("smollm2"), "dpo": str(config.run / "dpo")}
            found = {}
            for policy, path in folders.items():
                load_folder(engine, path)
                found[policy] = _measured(config, policy, held_out, store, engine, progress, value)
        block(engine.close())
    print(f"principle: {text}")
    print(
        f"{card.pairs} pairs, the longer answer wins {card.longer.text()}, mean margin {card.margin.text()}"
    )
    print(f"DPO: {trained['pairs']} pairs, {given.epochs:g} epochs")
    for policy, values in found.items():
        print(f"{what} in an answer, {policy}: {mean_of(list(values.values()), policy).text(2)}")
    change = [found["dpo"][name] - found["base"][name] for name in found["base"]]
    print(f"change, paired by prompt: {mean_of(change, 'change').text(2)}")
    print(f"{time.monotonic() - start:.0f} s")


def _config(folder: Path, given: Any, text: str) -> RunConfig:
    principle = Principle(id=given.principle, text=text, critique=text, revise=text, compare=text)
    constitution = folder / "constitution.yaml"
    constitution.write_text(to_yaml(Constitution(name=given.principle, principles=(principle,))))
    settings = folder / "effect.yaml"
    settings.write_text(SETTINGS)
    sets = [f"generate.n={given.samples}", f"train.dpo.epochs={given.epochs}"]
    sets += [f"label.likelihood.per={given.per}", *given.sets]
    wanted = {"constitution": str(constitution), "run": str(folder / "run"), "limit": given.prompts}
    return load_config(settings, sets, {**wanted, **({"reuse": str(given.reuse)} if given.reuse else {})})


def _measured(
    config: RunConfig,
    policy: str,
    prompts: Sequence[Prompt],
    store: Store,
    engine: Any,
    progress: Any,
    value: Callable[[str], float],
) -> dict[str, float]:
    """The measure's mean over two answers to each held-out prompt, by prompt."""
    stage = f"held-out/{policy}"

    async def answer(row: Prompt, sample: Sample) -> Response:
        name, _, index = row.id.rpartition("/")
        return await generate(row.model_copy(update={"id": name}), sample, config.generate, int(index))

    rows = [slot(prompt, index) for prompt in prompts for index in range(2)]
    work = drive(
        stage,
        rows,
        answer,
        engine=engine,
        store=store,
        seed=config.seed,
        in_flight=config.engine.in_flight,
        progress=progress,
        total=len(rows),
        keep_truncated=True,
    )
    block(work)
    by_prompt: dict[str, list[float]] = defaultdict(list)
    for outcome in store.outcomes(stage, "ok"):
        response = Response.model_validate(outcome.data)
        by_prompt[response.prompt.id].append(value(response.response))
    return {name: sum(values) / len(values) for name, values in by_prompt.items()}
