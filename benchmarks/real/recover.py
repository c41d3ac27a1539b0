"""Which principles of `assistant` explain what people prefer in HH, by a real model's likelihoods?

    python -m benchmarks real.recover [--pairs HH.jsonl.gz] [-n 200] [--principle ID] [--propose] [--run DIR]

The pairs are the even half of harmless-base's test set. Weights are fitted on half of the prompts,
every figure is of the other half. It prints what `constitution recover` does.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from constitute.cli.constitution.recover_text import recovered_text
from constitute.config import load_config
from constitute.constitution.read import load_configured
from constitute.data.pairs import read_pairs
from constitute.editing.recover.run import Wanted, recover
from constitute.progress import open_progress

SHARED = Path(__file__).parents[3] / "shared"
PAIRS = SHARED / "data" / "hh-rlhf" / "harmless-base-test-even.jsonl.gz"
SETTINGS = {"engine.in_flight": 128, "engine.context_length": 2048, "engine.kv_cache_gib": 1.0}


def main(arguments: Sequence[str]) -> None:
    """Print the tables of the recovery; with `--run` answers are kept and a stopped run goes on."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks real.recover")
    parser.add_argument("--pairs", default=str(PAIRS))
    parser.add_argument("--constitution", default="assistant")
    parser.add_argument("--principle", action="append", default=[], help="only this one; may be repeated")
    parser.add_argument("-n", type=int, default=200)
    parser.add_argument("--method", default="likelihood")
    parser.add_argument("--propose", action="store_true")
    parser.add_argument("--run", type=Path)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name, open_progress(False) as progress:
        wanted = {"model": "smollm2", "label.method": given.method}
        config = load_config(overrides={**SETTINGS, **wanted, "run": str(given.run or Path(name) / "run")})
        pairs, _ = read_pairs(given.pairs)
        asked = Wanted(n=given.n, propose=given.propose, show=3)
        constitution = load_configured(config, given.constitution)
        if given.principle:
            chosen = tuple(p for p in constitution.principles if p.id in given.principle)
            constitution = constitution.model_copy(update={"principles": chosen})
        done = recover(config, constitution, pairs, asked, progress=progress)
    print(recovered_text(done))
