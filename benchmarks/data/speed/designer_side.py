"""DataDesigner's sides, run by its own interpreter: `python designer_side.py WORK.json`.

A chain is three custom columns whose functions send the conversation so far: its text columns send one user
turn, which would be other prompts. A label is one column over all (pair, principle, order), which reads the
first token's log-probabilities in the raw answer.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))
import data_designer.config as dd
import pandas as pd
from data_designer.engine.models.utils import ChatMessage
from data_designer.interface import DataDesigner

from benchmarks.data.speed import worker

# Requests at once: its own default, and what our side has in flight.
PARALLEL = {"designer": 4, "designer_tuned": 256}
LISTED = 20


def run(work: Mapping[str, Any], side: str, rows: pd.DataFrame) -> dict[str, Any]:
    """One run, with its artefacts in a folder of its own."""
    seen: list[float] = []
    with tempfile.TemporaryDirectory(prefix="designer-") as folder:
        started = time.time()
        provider = dd.ModelProvider(name="here", endpoint=work["url"] + "/v1", api_key="none")
        designer = DataDesigner(artifact_path=folder, model_providers=[provider])
        designer.set_run_config(dd.RunConfig(otel_metrics_port=None))
        labels = work["kind"] == "b"
        sampled = dd.ChatCompletionInferenceParams(
            temperature=0.0 if labels else work["temperature"],
            max_tokens=1 if labels else work["tokens"],
            max_parallel_requests=PARALLEL[side],
            extra_body={"logprobs": True, "top_logprobs": LISTED} if labels else None,
        )
        config = dd.ModelConfig(alias="m", model=work["model"], provider="here", inference_parameters=sampled)
        builder = dd.DataDesignerConfigBuilder(model_configs=[config])
        builder.with_seed_dataset(dd.DataFrameSeedSource(df=rows))
        for name, said in columns(work):
            last = name in ("revision", "letter")
            builder.add_column(
                dd.CustomColumnConfig(
                    name=name, generator_function=column(name, said, seen if last else None)
                )
            )
        made = designer.create(builder, num_records=len(rows)).load_dataset()
        result = ended(made, work)
        return result | {
            "seconds": time.time() - started,
            "first_s": seen[0] - started if seen else None,
            "requests": len(made) * len(columns(work)),
        }


def columns(work: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """(column, the columns that its conversation goes on with) in their order."""
    if work["kind"] == "b":
        return [("letter", [])]
    critique = ["response", "critique_request"]
    return [("response", []), ("critique", critique), ("revision", [*critique, "critique", "revise_request"])]


def column(name: str, said: list[str], seen: list[float] | None) -> Any:
    """The function of a column: the conversation so far, one more answer."""

    @dd.custom_column_generator(required_columns=["messages", *said], model_aliases=["m"])
    async def answer(row: dict, generator_params: None, models: dict) -> dict:
        turns = [(each["role"], each["content"]) for each in json.loads(row["messages"])]
        turns += [(("assistant", "user")[at % 2], row[each]) for at, each in enumerate(said)]
        make = {"user": ChatMessage.as_user, "assistant": ChatMessage.as_assistant}
        make["system"] = ChatMessage.as_system
        found = await models["m"].acompletion([make[role](content=text) for role, text in turns])
        if name == "letter":
            row[name] = json.dumps(share_of_a(found.raw))
        else:
            row[name] = (found.message.content or "").strip()
        if seen is not None and not seen:
            seen.append(time.time())
        return row

    return answer


def ended(made: pd.DataFrame, work: Mapping[str, Any]) -> dict[str, Any]:
    """How many rows of the workload have what was asked for, and how many have not."""
    if work["kind"] == "a":
        good = sum(bool(text) for text in made["revision"])
        return {"rows": good, "without": len(made) - good}
    votes: dict[str, list[float | None]] = {}
    for name, text in zip(made["id"], made["letter"], strict=True):
        pair, _, order = name.split(" ")
        p = json.loads(text)
        votes.setdefault(pair, []).append(p if p is None or order == "AB" else 1 - p)
    whole = sum(all(p is not None for p in each) for each in votes.values())
    return {"rows": whole, "without": len(votes) - whole}


def share_of_a(raw: Any) -> float | None:
    """P(A) among A and B of the listed first tokens; None where one of them is not listed."""
    body = raw if isinstance(raw, dict) else raw.model_dump()
    found = {"A": 0.0, "B": 0.0}
    for each in body["choices"][0]["logprobs"]["content"][0]["top_logprobs"]:
        letter = each["token"].strip()
        if letter in found:
            found[letter] += math.exp(each["logprob"])
    total = sum(found.values())
    return found["A"] / total if min(found.values()) > 0 else None


if __name__ == "__main__":
    logging.disable(logging.INFO)
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    asked = Path(given["folder"], "asked.jsonl").read_text(encoding="utf-8")
    data = pd.DataFrame([json.loads(line) for line in asked.splitlines()])
    data["messages"] = data["messages"].map(json.dumps)
    worker.serve({side: partial(run, given, side, data) for side in PARALLEL})
