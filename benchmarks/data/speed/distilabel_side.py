"""distilabel's sides, run by its own interpreter: `python distilabel_side.py WORK.json`.

A chain is three tasks, each the conversation so far and one more answer; a label is one task over all
(pair, principle, order), read from the log-probabilities of the first token. Rows, words and sampling are
ours, so the server is asked the same. Its vLLM class is no side: it gives SamplingParams `logits_processors`,
which vLLM 0.31 does not take, fills every batch with None and does not end.
"""

import json
import logging
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))
from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts, StepInput
from distilabel.steps.tasks import Task

from benchmarks.data.speed import worker

# distilabel's own default of input_batch_size, and the one that is fastest here.
BATCH = {"distilabel": 50, "distilabel_tuned": 128}
# As many as vLLM lists by default.
LISTED = 20


class Turn(Task):
    """One more answer to a conversation; `said` names the columns that it goes on with."""

    said: list[str]
    column: str
    seen: str = ""

    @property
    def inputs(self) -> list[str]:
        return ["messages", *self.said]

    @property
    def outputs(self) -> list[str]:
        return [self.column, f"{self.column}_tokens", "model_name"]

    def load(self) -> None:
        super().load()
        # distilabel quietens httpx; the client of now logs every request under another name.
        logging.getLogger("httpx2").setLevel(logging.WARNING)

    def process(self, inputs: StepInput) -> Iterator[Any]:
        # The metadata of a task replaces that of the tasks before it.
        for rows in super().process(inputs):
            for row in rows:
                said = row["distilabel_metadata"].get(f"statistics_{self.name}") or {}
                row[f"{self.column}_tokens"] = said.get("output_tokens") or 0
            yield rows

    def format_input(self, input: dict[str, Any]) -> list[dict[str, str]]:
        # In turn: an answer, what was asked of it, an answer, ...
        roles = ("assistant", "user")
        more = [{"role": roles[at % 2], "content": input[name]} for at, name in enumerate(self.said)]
        return [*input["messages"], *more]

    def format_output(self, output: str | None, input: dict[str, Any] | None = None) -> dict[str, Any]:
        if self.seen and not Path(self.seen).exists():
            Path(self.seen).write_text(str(time.time()), encoding="utf-8")
        return {self.column: None if output is None else output.strip()}


def steps_of(work: Mapping[str, Any], side: str, seen: str) -> list[Turn]:
    """The tasks of a workload in their order."""

    def turn(name: str, said: list[str], seen: str = "") -> Turn:
        return Turn(
            name=name,
            llm=model(work),
            said=said,
            column=name,
            seen=seen,
            input_batch_size=BATCH[side],
            add_raw_output=False,
            add_raw_input=False,
        )

    if work["kind"] == "b":
        return [turn("letter", [], seen)]
    critique = ["response", "critique_request"]
    return [
        turn("response", []),
        turn("critique", critique),
        turn("revision", [*critique, "critique", "revise_request"], seen),
    ]


def model(work: Mapping[str, Any]) -> Any:
    """The model behind the workload's server."""
    labels = work["kind"] == "b"
    sampled: dict[str, Any] = {
        "max_new_tokens": 1 if labels else work["tokens"],
        "temperature": 0.0 if labels else work["temperature"],
    }
    if labels:
        sampled |= {"logprobs": True, "top_logprobs": LISTED}
    return OpenAILLM(
        model=work["model"], base_url=work["url"] + "/v1", api_key="none", generation_kwargs=sampled
    )


def run(work: Mapping[str, Any], side: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """One run of a pipeline without its cache."""
    with tempfile.TemporaryDirectory(prefix="distilabel-") as folder:
        seen = str(Path(folder) / "first")
        started = time.time()
        with Pipeline(name="speed", cache_dir=folder) as pipeline:
            steps = steps_of(work, side, seen)
            before: Any = LoadDataFromDicts(data=rows, batch_size=BATCH[side])
            for step in steps:
                before >> step
                before = step
        found = pipeline.run(use_cache=False)
        answers = [row for split in found["default"].values() for row in split]
        result = ended(answers, steps[-1].column, work)
        seconds = time.time() - started
        first = float(Path(seen).read_text(encoding="utf-8")) - started if Path(seen).exists() else None
        return result | {
            "seconds": seconds,
            "first_s": first,
            "tokens": sum(row[f"{step.column}_tokens"] or 0 for row in answers for step in steps),
            "requests": len(answers) * len(steps),
        }


def ended(answers: list[dict[str, Any]], column: str, work: Mapping[str, Any]) -> dict[str, Any]:
    """How many rows of the workload have what was asked for, and how many have None or nothing."""
    if work["kind"] == "a":
        good = sum(bool(row[column]) for row in answers)
        return {"rows": good, "without": len(answers) - good}
    votes: dict[str, list[float | None]] = {}
    for row in answers:
        name, _, order = row["id"].split(" ")
        listed = row.get("llm_letter_logprobs") or []
        p = share_of_a(listed)
        votes.setdefault(name, []).append(p if p is None or order == "AB" else 1 - p)
    whole = [all(p is not None for p in each) for each in votes.values()]
    return {"rows": sum(whole), "without": len(whole) - sum(whole)}


def share_of_a(listed: Any) -> float | None:
    """P(A) among A and B of the listed first tokens; None where one of them is not listed."""
    while listed and isinstance(listed[0], list):
        listed = listed[0]
    found = {"A": 0.0, "B": 0.0}
    for each in listed:
        letter = each["token"].strip()
        if letter in found:
            found[letter] += math.exp(each["logprob"])
    total = sum(found.values())
    return found["A"] / total if min(found.values()) > 0 else None


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    asked = Path(given["folder"], "asked.jsonl").read_text(encoding="utf-8")
    data = [json.loads(line) for line in asked.splitlines()]
    worker.serve({side: partial(run, given, side, data) for side in BATCH})
