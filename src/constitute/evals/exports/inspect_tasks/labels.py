"""Tasks of Inspect for the labelled items beside this file; written by `constitute evals export`.

`FILE@logprobs` compares the labels' log-probabilities, `FILE@answers` reads the answer.
"""

import math
import re
from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import json_dataset
from inspect_ai.model import GenerateConfig
from inspect_ai.scorer import Score, Scorer, Target, accuracy, scorer, stderr
from inspect_ai.solver import TaskState, generate, system_message

ITEMS = str(Path(__file__).with_suffix(".jsonl"))
AROUND = " \n()*\"'"


def read_logprobs(tokens: list[tuple[str, float, dict[str, float]]], labels: list[str]) -> list[float | None]:
    """log P of each label, None if unlisted, from (token, its log P, {likeliest: log P}) by place.

    The first place counts, and the one after an opening such as "(" that the answer took. A label counts with
    and without a blank or brackets around it.
    """
    found: dict[str, list[float]] = {label: [] for label in labels}
    before = 0.0
    for said, logprob, likeliest in tokens[:3]:
        for text, value in likeliest.items():
            for label in labels:
                if text.strip(AROUND) == label.strip(AROUND):
                    found[label].append(before + value)
        if said.strip(AROUND):
            break
        before += logprob
    return [math.log(sum(map(math.exp, values))) if values else None for values in found.values()]


@scorer(metrics=[accuracy(), stderr()])
def label_logprobs() -> Scorer:
    async def score(state: TaskState, target: Target) -> Score:
        logprobs = state.output.choices[0].logprobs if state.output.choices else None
        if logprobs is None:
            return Score.unscored(reason="the model gives no log-probabilities")
        tokens = [
            (t.token, t.logprob, {top.token: top.logprob for top in t.top_logprobs or []})
            for t in logprobs.content
        ]
        labels = state.metadata["labels"]
        values = read_logprobs(tokens, labels)
        known = [(value, -at) for at, value in enumerate(values) if value is not None]
        if not known:
            return Score.unscored(reason="no label is among the likeliest tokens")
        best = labels[-max(known)[1]]
        metadata = {"logprobs": values}
        return Score(value="C" if best in target.target else "I", answer=best, metadata=metadata)

    return score


@scorer(metrics=[accuracy(), stderr()])
def label_said() -> Scorer:
    async def score(state: TaskState, target: Target) -> Score:
        text = state.output.completion.lstrip(AROUND)
        for label in state.metadata["labels"]:
            if re.match(re.escape(label.strip(AROUND)) + r"(?!\w)", text, re.IGNORECASE):
                return Score(value="C" if label in target.target else "I", answer=label)
        return Score.unscored(reason="the answer begins with no label", explanation=state.output.completion)

    return score


@task
def logprobs() -> Task:
    config = GenerateConfig(max_tokens=3, temperature=0, logprobs=True, top_logprobs=20)
    return Task(dataset=json_dataset(ITEMS), solver=generate(), scorer=label_logprobs(), config=config)


@task
def answers() -> Task:
    solver = [system_message("{instruction}"), generate()]
    config = GenerateConfig(max_tokens=16, temperature=0)
    return Task(dataset=json_dataset(ITEMS), solver=solver, scorer=label_said(), config=config)
