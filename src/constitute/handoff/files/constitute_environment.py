"""NeMo-RL's environment and data processor for a run that was handed over; used by launch.py beside it."""

from __future__ import annotations

import json
from typing import Any

import ray
import torch
from constitute_reward import rewards
from nemo_rl.environments.interfaces import EnvironmentInterface, EnvironmentReturn

# Rows of one request.
TOGETHER = 64


@ray.remote
class ConstituteEnvironment(EnvironmentInterface):
    """Rewards each response once, by `constitute serve-reward`, and ends the episode."""

    def __init__(self, config: Any) -> None:
        self.config = config

    def step(self, message_log_batch: list[Any], metadata: list[Any]) -> EnvironmentReturn:
        """One reward a conversation; `metadata` holds each prompt as `process` noted it."""
        answers = [str(log[-1]["content"]) for log in message_log_batch]
        rows = [(each["prompt"], answer) for each, answer in zip(metadata, answers, strict=True)]
        found = [
            value
            for start in range(0, len(rows), TOGETHER)
            for value in rewards(rows[start : start + TOGETHER])
        ]
        return EnvironmentReturn(
            observations=[{"role": "environment", "content": f"{value:g}"} for value in found],
            metadata=metadata,
            next_stop_strings=[None] * len(rows),
            rewards=torch.tensor(found),
            terminateds=torch.ones(len(rows), dtype=torch.bool),
            answers=list(answers),
        )

    def global_post_process_and_metrics(self, batch: Any) -> tuple[Any, dict[str, float]]:
        """The batch as it is, and its mean reward."""
        return batch, {"constitute/reward": float(batch["total_reward"].float().mean())}


def process(
    datum_dict: Any, task_data_spec: Any, tokenizer: Any, max_seq_length: int, idx: int
) -> dict[str, Any]:
    """A row of prompts.jsonl as NeMo-RL's DatumSpec: the whole conversation rendered as one prompt."""
    messages = [{"role": turn["role"], "content": turn["content"]} for turn in datum_dict["messages"]]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"][0]
    if len(ids) >= max_seq_length:
        raise ValueError(f"prompt {datum_dict['id']} has {len(ids)} tokens of at most {max_seq_length}")
    prompt = json.dumps({"id": datum_dict["id"], "messages": messages}, ensure_ascii=False)
    return {
        "message_log": [{"role": "user", "content": text, "token_ids": ids}],
        "length": len(ids),
        "extra_env_info": {"prompt": prompt},
        "loss_multiplier": 1.0,
        "idx": idx,
        "task_name": datum_dict["task_name"],
    }
