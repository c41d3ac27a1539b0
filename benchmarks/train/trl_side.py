"""One run of TRL 1.12.0's PPOTrainer, in an environment of its own: `trl_side.py TASK SETTING.json`."""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

os.environ |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}


def main(task: Path, setting: dict[str, object]) -> None:
    """Train and print one JSON line: seconds of each update, of its generation, peak memory, rewards."""
    import torch
    from datasets import Dataset
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        TrainerCallback,
    )
    from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

    torch.set_num_threads(2)
    policy = str(task / str(setting["policy"]))
    ends: list[float] = []
    cpu: list[float] = []
    rewards: list[float] = []
    generation: list[float] = []

    class Clock(TrainerCallback):
        """Notes the end of each update."""

        def on_step_end(self, *_: object, **__: object) -> None:
            """One update is done."""
            ends.append(time.perf_counter())
            cpu.append(time.process_time())

        def on_log(
            self, args: object, state: object, control: object, logs: object = None, **_: object
        ) -> None:
            """Keep the mean score of the batch."""
            if logs and "objective/scores" in logs:
                rewards.append(float(logs["objective/scores"]))

    sample = ppo_trainer.batch_generation

    def timed(*args: object, **kwargs: object) -> object:
        start = time.perf_counter()
        found = sample(*args, **kwargs)
        generation.append(time.perf_counter() - start)
        return found

    ppo_trainer.batch_generation = timed
    with tempfile.TemporaryDirectory() as scratch:
        arguments = PPOConfig(
            output_dir=scratch, report_to="none", use_cpu=True, bf16=False, disable_tqdm=True,
            gradient_checkpointing=False,
            per_device_train_batch_size=int(setting["device_batch"]),
            gradient_accumulation_steps=int(setting["batch"]) // int(setting["device_batch"]),
            local_rollout_forward_batch_size=int(setting["batch"]),
            num_mini_batches=1, num_ppo_epochs=int(setting["epochs"]),
            total_episodes=int(setting["batch"]) * int(setting["updates"]),
            response_length=int(setting["new_tokens"]), temperature=1.0, stop_token="eos",
            missing_eos_penalty=None, num_sample_generations=0, kl_coef=0.05, gamma=1.0, lam=0.95,
            cliprange=0.2, cliprange_value=0.2, vf_coef=0.1, learning_rate=float(setting["rate"]),
            lr_scheduler_type="constant", adam_epsilon=1e-5, save_strategy="no", logging_steps=1,
            seed=int(setting["seed"]),
        )  # fmt: skip

        def classifier() -> object:
            return AutoModelForSequenceClassification.from_pretrained(task / "reward", dtype=torch.float32)

        def language_model() -> object:
            return AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32)

        rows = json.loads((task / "prompts.json").read_text())[str(setting["policy"])]
        trainer = PPOTrainer(
            args=arguments, processing_class=AutoTokenizer.from_pretrained(policy, padding_side="left"),
            model=language_model(), ref_model=language_model(), reward_model=classifier(),
            value_model=classifier(), train_dataset=Dataset.from_dict({"input_ids": rows}),
            eval_dataset=Dataset.from_dict({"input_ids": rows[:8]}), callbacks=[Clock()],
        )  # fmt: skip
        start, started = time.perf_counter(), time.process_time()
        trainer.train()
    used = [end - begin for begin, end in zip([started, *cpu], cpu, strict=False)]
    seconds = [end - begin for begin, end in zip([start, *ends], ends, strict=False)]
    calls = len(generation) // len(seconds)
    phases = {"generate": [sum(generation[i * calls : (i + 1) * calls]) for i in range(len(seconds))]}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    result = {"seconds": seconds, "cpu": used, "phases": phases, "peak_gib": peak, "rewards": rewards}
    print(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
