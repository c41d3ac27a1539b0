"""Adaptive principles against all: questions saved, labels that change side, what it does to margins.

    python -m benchmarks adaptive [--prompts N] [--constitution NAME] [--model NAME] [--engine KIND]

Two samples of each prompt, and each with its revision, are labelled under every principle; then the same
pairs are labelled again with `label.adaptive`, from the same stored answers, by the stage itself. A label
changes side where P(A) - 1/2 has another sign than with all principles.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

SETTINGS = tuple((first, margin) for first in (2, 4, 6) for margin in (0.0, 0.1, 0.2, 0.3))


def main(arguments: Sequence[str]) -> None:
    """Print one line a setting."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks adaptive")
    parser.add_argument("--prompts", type=int, default=120)
    parser.add_argument("--constitution", default="pocket/harmless")
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--engine", default="auto", help="as engine.kind")
    with TemporaryDirectory(prefix="constitute-") as folder:
        _run(parser.parse_args(arguments), Path(folder))


def _run(given: Any, folder: Path) -> None:
    from constitute.blocking import block
    from constitute.config import load_config
    from constitute.engines import open_engine
    from constitute.pipeline import run_stages
    from constitute.pocket import world
    from constitute.stats import mean_of, share_of

    sets = [f"model={given.model}", f"constitution={given.constitution}", "label.principles=all"]
    sets += [f"engine.kind={given.engine}"] if given.engine != "auto" else []
    sets += ["label.pairs=both", "generate.n=2", "generate.temperature=0.8", "generate.max_tokens=128"]
    sets += ["revise.temperature=0", "revise.max_tokens=128"]
    config = load_config(None, [*sets, f"run={folder / 'all'}"])
    prompts = [each.as_prompt() for each in world.prompts("train", kind="mixed", n=given.prompts, seed=0)]
    engine = open_engine(given.model, config.engine)
    run_stages(config, config.chain, prompts=prompts, engine=engine)
    full = _labels(folder / "all")
    most = sum(len(row.label.votes) for row in full.values())
    count = len(next(iter(full.values())).label.votes)
    print(f"{given.constitution}, {count} principles, {given.model}: {len(full)} pairs, {2 * most} questions")
    print("first  margin  questions  settled by the first       changed side               margin +, settled")
    for first, margin in SETTINGS:
        if first >= count:
            continue
        name = folder / f"{first}-{margin}"
        more = [f"label.adaptive={first}", f"label.adaptive_margin={margin}", f"reuse={folder / 'all'}"]
        again = load_config(None, [*sets, f"run={name}", *more])
        run_stages(again, ["label"], pairs=[row.comparison for row in full.values()], engine=engine)
        rows = _labels(name)
        votes = sum(len(row.label.votes) for row in rows.values())
        settled = [key for key, row in rows.items() if len(row.label.votes) < row.label.voters]
        moved = [_side(rows[key]) != _side(full[key]) for key in full]
        wider = [_margin(rows[key]) - _margin(full[key]) for key in settled]
        shares = (share_of(len(settled), len(rows)), share_of(sum(moved), len(moved)), mean_of(wider))
        told = "  ".join(f"{share.text():<25}" for share in shares)
        print(f"{first:5}  {margin:6}  {votes / most:9.1%}  {told}")
    block(engine.close())


def _labels(folder: Path) -> dict[str, Any]:
    from constitute.store import Store
    from constitute.types import LabelledPair

    with Store.open(folder, readonly=True) as store:
        rows = [LabelledPair.model_validate(row.data) for row in store.outcomes("label", "ok")]
    return {row.id: row for row in rows}


def _side(row: Any) -> int:
    return int(row.label.p_a > 0.5) - int(row.label.p_a < 0.5)


def _margin(row: Any) -> float:
    return abs(2 * float(row.label.p_a) - 1)
