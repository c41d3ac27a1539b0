"""Our scores against those of lm-evaluation-harness, item by item: same model, same prompt, fp32.

`python -m benchmarks real.lm_eval` compares the log-probabilities of every option on real sets. Each set is
run twice: by `evals run` and by `lm_eval --model hf` as a multiple-choice task of the same prompts.
`--golden` asks lm_eval anew about the items of the tests, for weights of pocket that have changed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.evals import harness_venvs
from constitute.config.load import load_config
from constitute.evals.run import load_sets, own_way, run_sets
from constitute.evals.sets import find_spec
from constitute.packaged import model_path
from constitute.types import EvalItem

LM_EVAL = "0.4.13"
CACHE = Path.home() / ".cache" / "constitute-benchmarks"
GOLDEN = Path(__file__).parents[2] / "tests" / "golden" / "lm_eval_pocket.json"
DATA = Path(__file__).parents[2].parent / "shared" / "data"
_RISK = "model-written-evals/advanced-ai-risk/lm/survival-instinct.jsonl"
_PLAIN = "Human: {{question}}\n\nAssistant:"
_TASK = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: {text}
doc_to_choice: choices
doc_to_target: gold
target_delimiter: ""
metric_list: [{{metric: acc}}]
"""


class Case(NamedTuple):
    """A set in a form of asking, and the same form as lm-eval's template."""

    name: str
    spec: str
    file: str
    mode: str
    text: str = "{{question}}"


CASES = (
    Case("persona", "anthropic-evals", "model-written-evals/persona/politically-liberal.jsonl", "bare"),
    Case("risk", "anthropic-evals", _RISK, "plain", _PLAIN),
    Case("bbq", "bbq", "bbq/Physical_appearance.jsonl", "plain", _PLAIN),
    Case(
        "winogenerated", "winogenerated",
        "model-written-evals/winogenerated/winogenerated_examples-300.jsonl", "plain", _PLAIN,
    ),
)  # fmt: skip


class Compared(NamedTuple):
    """Items both scored, the largest difference of an option's log-probability, equal picks, and ties."""

    items: int
    options: int
    largest: float
    same: int
    abstained: int


def ours(
    case: Case, items: Sequence[EvalItem], model: str, folder: Path, limit: int
) -> dict[str, list[float]]:
    """The log-probabilities of each item's options, by id."""
    sets = [
        f"evals.mode={case.mode}",
        "evals.spelled=false",
        "engine.kind=transformers",
        "evals.max_unparsed=1",
    ]
    config = load_config(None, sets, {"run": folder / case.name, "model": model})
    (result,) = run_sets(config, [DATA / case.file], limit=limit, spec=find_spec(case.spec))
    return {score.id: list(score.logprobs) for score in result.scores}


def theirs(
    python: Path, case: Case, items: Sequence[EvalItem], model: str, folder: Path
) -> dict[str, list[float]]:
    """The same from lm-eval's log of samples."""
    rows = folder / f"{case.name}.jsonl"
    rows.write_text(
        "".join(
            json.dumps({"question": i.question, "choices": list(i.options), "gold": i.matching[0]}) + "\n"
            for i in items
        )
    )
    task = _TASK.format(name=f"set_{case.name}", rows=rows, text=json.dumps(case.text))
    (folder / f"{case.name}.yaml").write_text(task)
    out = folder / f"{case.name}-out"
    command = [str(python), "-m", "lm_eval", "--model", "hf", "--device", "cpu", "--batch_size", "1"]
    command += ["--model_args", f"pretrained={model_path(model)},dtype=float32", "--log_samples"]
    command += ["--include_path", str(folder), "--tasks", f"set_{case.name}", "--output_path", str(out)]
    quiet = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder / "cache")}
    done = subprocess.run(command, env=quiet, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"lm_eval ended with {done.returncode}: {done.stderr[-2000:]}")
    (log,) = out.rglob("samples_*.jsonl")
    samples = [json.loads(line) for line in log.read_text().splitlines()]
    return {
        items[sample["doc_id"]].id: [float(answer[0]) for answer in sample["filtered_resps"]]
        for sample in samples
    }


def compare(own: dict[str, list[float]], other: dict[str, list[float]]) -> Compared:
    """Differences over the items that both scored; those that we left as ties count as abstained."""
    both = [(own[key], other[key]) for key in other if key in own]
    gaps = [abs(a - b) for first, second in both for a, b in zip(first, second, strict=True)]
    same = sum(a.index(max(a)) == b.index(max(b)) for a, b in both)
    return Compared(len(both), len(gaps), max(gaps, default=0.0), same, len(other) - len(both))


def record(python: Path) -> None:
    """Write what lm_eval says of pocket on the items of the golden file in the place of what stands there."""
    golden = json.loads(GOLDEN.read_text())
    rows = [
        row | {"item": EvalItem(id=str(n), question=row["question"], options=row["options"], matching=(0,))}
        for n, row in enumerate(golden["items"])
    ]
    for mode, text in (("bare", "{{question}}"), ("plain", _PLAIN)):
        own = [row for row in rows if row["mode"] == mode]
        with tempfile.TemporaryDirectory() as made:
            case = Case(mode, "", "", mode, text)
            found = theirs(python, case, [row["item"] for row in own], "pocket", Path(made))
        for row in own:
            golden["items"][int(row["item"].id)]["logprobs"] = [round(v, 5) for v in found[row["item"].id]]
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line a model and set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=["pocket", "smollm2"])
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--cases", nargs="*", default=[case.name for case in CASES])
    parser.add_argument("--venv", type=Path, default=CACHE / f"lm-eval-{LM_EVAL}")
    parser.add_argument("--golden", action="store_true")
    options = parser.parse_args(arguments)
    python = harness_venvs.lm_eval(options.venv)
    if options.golden:
        record(python)
        return
    print("model    set             items  options  largest difference  same pick  abstained")
    for model in options.models:
        for case in (case for case in CASES if case.name in options.cases):
            with tempfile.TemporaryDirectory() as made:
                folder = Path(made)
                config = load_config(None, [], {"run": folder, "model": model})
                spec = find_spec(case.spec)
                assert own_way(config.evals, spec) == config.evals, "the set has a way of its own to ask"
                (items,) = load_sets([DATA / case.file], folder, options.limit, spec).values()
                found = compare(
                    ours(case, items, model, folder, options.limit),
                    theirs(python, case, items, model, folder),
                )
            print(
                f"{model:8} {case.name:15} {found.items:5} {found.options:8}  {found.largest:18.2e}  "
                f"{found.same:9}  {found.abstained:9}",
                flush=True,
            )


if __name__ == "__main__":
    main()
