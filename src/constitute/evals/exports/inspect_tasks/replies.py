"""A task of Inspect for the replies beside this file; written by `constitute evals export`.

The model is shown the replies with letters and names one. That is not the comparison of the replies'
log-probabilities that `constitute evals run` makes.
"""

from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import json_dataset
from inspect_ai.scorer import choice
from inspect_ai.solver import multiple_choice


@task
def letters() -> Task:
    items = str(Path(__file__).with_suffix(".jsonl"))
    return Task(dataset=json_dataset(items), solver=multiple_choice(), scorer=choice())
