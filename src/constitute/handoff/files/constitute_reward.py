"""Ask `constitute serve-reward` for rewards; needs Python alone. Its URL stands in reward.json beside it.

verl calls `compute_score` for each response (reward.custom_reward_function).
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

SETTINGS = json.loads(Path(__file__).with_name("reward.json").read_text(encoding="utf-8"))
TRIES = 5


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None, **_: Any
) -> float:
    """The reward of a response; `ground_truth` holds the prompt, as the hand-over wrote it."""
    return rewards([(ground_truth, solution_str)])[0]


def rewards(rows: list[tuple[str, str]]) -> list[float]:
    """A reward for each (prompt as handed over, response). Raises `RuntimeError` where there is none."""
    prompts = [json.loads(prompt) for prompt, _ in rows]
    answers = [{"role": "assistant", "content": text} for _, text in rows]
    body = {
        "ids": [prompt["id"] for prompt in prompts],
        "messages": [[*prompt["messages"], answer] for prompt, answer in zip(prompts, answers, strict=True)],
    }
    found = [float(value) for value in _post(SETTINGS["url"], body)["rewards"]]
    limit = SETTINGS["score_clip"]
    return found if limit is None else [min(max(value, -limit), limit) for value in found]


def _post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    why = ""
    for attempt in range(TRIES):
        time.sleep(2.0**attempt - 1)
        try:
            with urllib.request.urlopen(request, timeout=SETTINGS["timeout_s"]) as answer:
                told: dict[str, Any] = json.load(answer)
                return told
        except urllib.error.HTTPError as problem:
            why = f"status {problem.code}: {problem.read(500).decode('utf-8', 'replace')}"
            if problem.code < 500:
                break
        except OSError as problem:
            why = str(problem)
    raise RuntimeError(f"no reward from {url}: {why}")
