"""The data half of the loop from Python: generate, critique, revise, label, export.

python examples/python_api.py [RUN_DIR]
"""

from __future__ import annotations

import sys
from pathlib import Path

import constitute
from constitute.types import LabelledPair, Response

HERE = Path(__file__).parent


def main(run_dir: Path) -> None:
    """Run 20 prompts through the chain on the embedded model and print one of the chains."""
    prompts, _ = constitute.read_prompts(str(HERE / "pocket" / "prompts.jsonl"), limit=20)
    config = constitute.load_config(
        overrides={
            "model": "pocket",
            "constitution": "pocket/harmless",
            "run": str(run_dir),
            "generate.max_tokens": 128,
            "label.pairs": "revision",
        },
    )
    counts = constitute.run_stages(config, ["generate", "revise", "label"], prompts=prompts)
    for stage, count in counts.items():
        print(f"{stage}: {count.ok} ok, {count.abstain} abstain, {count.failed} failed")

    with constitute.Store.open(run_dir, create=False, readonly=True) as store:
        rows = [Response.model_validate(row.data) for row in store.outcomes("revise", "ok")]
        pairs = [LabelledPair.model_validate(row.data) for row in store.outcomes("label", "ok")]
    row = next((row for row in rows if row.final != row.response), rows[0])
    print(f"\nprompt:   {row.prompt.messages[-1].content}\nresponse: {row.response}")
    for step in row.steps:
        print(f"critique: {step.critique}  [{step.principle_id}]\nrevision: {step.revision}")
    if pairs:
        mean = sum(pair.label.p_a for pair in pairs) / len(pairs)
        print(f"\nmean P(response preferred to its revision): {mean:.3f}")
    for part in constitute.export_run(run_dir, config.export):
        print(f"{part.kind}: {part.rows} rows in {part.path.name}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "api-run"))
