"""One run of one trainer, ours or TRL's: `peers_side.py SETTING.json` prints one JSON line.

Wall and CPU seconds count the training loop alone, an update each for GRPO and RLOO and the whole loop for
the others; loading and saving are not timed.
"""

from __future__ import annotations

import json
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}

from constitute.progress import Silent

Setting = dict[str, Any]
Marks = list[tuple[float, float]]


class Clock(Silent):
    """Wall and CPU seconds at the start of training, and after each update or at its end."""

    def __init__(self, each: bool) -> None:
        self.marks: Marks = []
        self._each = each

    def mark(self) -> None:
        """Note the time."""
        self.marks.append((time.perf_counter(), time.process_time()))

    def start(self, stage: str, total: int | None = None, done: int = 0) -> None:
        self.mark()

    def advance(self, stage: str, status: str = "ok", **figures: float) -> None:
        if self._each:
            self.mark()

    def finish(self, stage: str) -> None:
        if not self._each:
            self.mark()


def reward_of(ids: Sequence[int]) -> float:
    """Ten times the share of even tokens, less five."""
    return 10.0 * (sum(token % 2 == 0 for token in ids) / max(1, len(ids)) - 0.5)


def spent(marks: Marks) -> dict[str, list[float]]:
    """Wall and CPU seconds between the marks."""
    pairs = list(pairwise(marks))
    return {
        "seconds": [end[0] - begin[0] for begin, end in pairs],
        "cpu": [end[1] - begin[1] for begin, end in pairs],
    }


def our_groups(setting: Setting, prompts: list[list[int]]) -> dict[str, Any]:
    """GRPO or RLOO by our trainer."""
    from constitute.config import EngineConfig
    from constitute.config.ppo import GRPOConfig
    from constitute.engines import open_engine
    from constitute.train.ppo.run import train_ppo
    from constitute.types import Message, Prompt

    rows = [Prompt(id=str(row), messages=(Message(role="user", content="-"),)) for row in range(len(prompts))]
    rloo = setting["algorithm"] == "rloo"
    config = GRPOConfig(
        advantage=setting["algorithm"], samples_per_prompt=setting["samples"], batch_size=setting["batch"],
        iterations=setting["updates"], epochs=1, max_new_tokens=setting["new_tokens"], kl_coef=0.04,
        loss_mean="token" if rloo else "response", learning_rate=1e-7, max_grad_norm=1.0,
        missing_eos_penalty=None, microbatch_tokens=setting["tokens"], checkpoint_every=10**6, samples_kept=0,
        **setting.get("extra", {}),
    )  # fmt: skip
    engine = open_engine(
        setting["model"], EngineConfig(kind=setting["engine"], kv_cache_gib=0.25, in_flight=256)
    )
    clock = Clock(each=True)

    def reward(prompts: Sequence[Any], completions: Sequence[Any]) -> list[float]:
        return [reward_of(completion.token_ids) for completion in completions]

    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out"
        train_ppo(rows, prompts, setting["model"], reward, out, config, engine=engine, seed=0, progress=clock)
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {
        **spent(clock.marks),
        "generate": [line["seconds"]["generate"] for line in lines],
        "length": sum(line["length"] for line in lines) / len(lines),
    }


def their_groups(setting: Setting, prompts: list[list[int]]) -> dict[str, Any]:
    """GRPO or RLOO by TRL's trainer; it samples with transformers, as its vLLM mode needs a GPU."""
    import trl
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback

    tokenizer = AutoTokenizer.from_pretrained(setting["model"], padding_side="left")
    texts = [tokenizer.decode(ids, skip_special_tokens=False) for ids in prompts]
    rloo = setting["algorithm"] == "rloo"
    config_class, trainer_class = (
        (trl.RLOOConfig, trl.RLOOTrainer) if rloo else (trl.GRPOConfig, trl.GRPOTrainer)
    )
    clock, generate, lengths = Clock(each=True), [], []

    def reward(completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
        lengths.extend(len(ids) for ids in completion_ids)
        return [reward_of(ids) for ids in completion_ids]

    with tempfile.TemporaryDirectory() as scratch:
        arguments = config_class(
            output_dir=scratch, report_to="none", use_cpu=True, bf16=False, disable_tqdm=True,
            gradient_checkpointing=False, per_device_train_batch_size=setting["device_batch"],
            gradient_accumulation_steps=setting["batch"] // setting["device_batch"],
            max_steps=setting["updates"], num_generations=setting["samples"],
            max_completion_length=setting["new_tokens"], temperature=1.0, beta=0.04, num_iterations=1,
            learning_rate=1e-7, lr_scheduler_type="constant", save_strategy="no", logging_steps=10**6,
            dataloader_pin_memory=False, seed=0, **({} if rloo else {"loss_type": "grpo"}),
        )  # fmt: skip
        trainer = trainer_class(
            model=AutoModelForCausalLM.from_pretrained(setting["model"], dtype="float32"),
            reward_funcs=reward, args=arguments, train_dataset=Dataset.from_dict({"prompt": texts}),
            processing_class=tokenizer, callbacks=[_callback(clock)],
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        sample = trainer._generate_single_turn

        def timed(*args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            found = sample(*args, **kwargs)
            generate.append(time.perf_counter() - begin)
            return found

        trainer._generate_single_turn = timed
        trainer.train()
    return {**spent(clock.marks), "generate": generate, "length": sum(lengths) / len(lengths)}


def _callback(clock: Clock) -> Any:
    from transformers import TrainerCallback

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            clock.start("")

        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.advance("")

        def on_train_end(self, *_: Any, **__: Any) -> None:
            clock.finish("")

    return Watch()


def drawn(setting: Setting, seed: int) -> list[tuple[list[int], list[int], list[int]]]:
    """Prompts of random tokens with two random answers, whose lengths are drawn apart."""
    rng, longest = random.Random(seed), setting["new_tokens"]
    shortest = 16 if setting["varied"] else longest

    def tokens(count: int) -> list[int]:
        return [rng.randrange(300, 1000) for _ in range(count)]

    return [
        (
            tokens(32 * setting.get("prompt_rows", 1)),
            tokens(rng.randint(shortest, longest)),
            tokens(rng.randint(shortest, longest)),
        )
        for _ in range(setting["batch"] * setting["updates"])
    ]


def our_dpo(setting: Setting, _: Any) -> dict[str, Any]:
    """DPO by our trainer, the pass of the reference included."""
    from transformers import AutoModelForCausalLM

    from constitute.config.train import DPOConfig
    from constitute.data.pairs import PreferencePair
    from constitute.train.common.batching import Batching
    from constitute.train.common.fit import Job
    from constitute.train.common.models import Actor, load_model
    from constitute.train.dpo import answer_logprobs, fit_dpo
    from constitute.train.reward.pairs import TokenPair

    row = PreferencePair((), "a", "b", 1.0)
    pairs = [TokenPair([*p, *a], [*p, *b], len(p), row) for p, a, b in drawn(setting, 0)]
    config = DPOConfig(
        batch_size=setting["batch"], learning_rate=1e-7, microbatch_tokens=setting["tokens"], labels="hard",
        checkpoint_every=10**6,
    )  # fmt: skip
    actor = Actor(load_model(AutoModelForCausalLM, setting["model"], dtype="float32"))
    clock = Clock(each=False)
    with tempfile.TemporaryDirectory() as scratch:
        clock.mark()
        known = answer_logprobs(actor, pairs, Batching(0, config.microbatch_tokens))
        losses = fit_dpo(actor, known, pairs, config, Job("dpo", Path(scratch), {}, 0, Silent()), pad_id=0)
        clock.mark()
    return {**spent(clock.marks), "loss": losses[0]}


def their_dpo(setting: Setting, _: Any) -> dict[str, Any]:
    """DPO by TRL's trainer."""
    import trl
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback

    tokenizer = AutoTokenizer.from_pretrained(setting["model"])
    texts = [[tokenizer.decode(ids) for ids in row] for row in drawn(setting, 0)]
    columns = {name: [row[at] for row in texts] for at, name in enumerate(("prompt", "chosen", "rejected"))}
    clock = Clock(each=False)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = trl.DPOConfig(
            output_dir=scratch, report_to="none", use_cpu=True, bf16=False, disable_tqdm=True,
            gradient_checkpointing=False, per_device_train_batch_size=setting["device_batch"],
            gradient_accumulation_steps=setting["batch"] // setting["device_batch"], num_train_epochs=1,
            learning_rate=1e-7, save_strategy="no", logging_steps=1, max_length=None, beta=0.1,
            dataloader_pin_memory=False, seed=0,
        )  # fmt: skip
        trainer = trl.DPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(setting["model"], dtype="float32"), args=arguments,
            train_dataset=Dataset.from_dict(columns), processing_class=tokenizer,
            callbacks=[_callback(clock)],
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        loss = next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)
    return {**spent(clock.marks), "loss": loss}


def our_sft(setting: Setting, _: Any) -> dict[str, Any]:
    """SFT as `train sft` runs TRL's trainer: rows of like length together, loss on the answers alone."""
    return _sft(setting, group=True)


def their_sft(setting: Setting, _: Any) -> dict[str, Any]:
    """SFT by TRL's trainer at its own order of rows."""
    return _sft(setting, group=False)


def _sft(setting: Setting, *, group: bool) -> dict[str, Any]:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback

    from constitute.config.train import SFTConfig
    from constitute.train.common import _compat
    from constitute.train.imitation.trainer import trainer_arguments

    rows = [(prompt, answer) for prompt, answer, _ in drawn(setting, 0)]
    columns = {
        "input_ids": [prompt + answer for prompt, answer in rows],
        "labels": [[-100] * len(prompt) + answer for prompt, answer in rows],
    }
    config = SFTConfig(
        batch_size=setting["batch"], device_batch_size=setting["device_batch"], epochs=1, learning_rate=1e-7,
        checkpoint_every=10**6,
    )  # fmt: skip
    trainer_class, config_class = _compat.sft_trainer()
    clock = Clock(each=False)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = trainer_arguments(config, Path(scratch), 0) | {"save_strategy": "no"}
        if not group:
            arguments["train_sampling_strategy"] = "random"
        trainer = trainer_class(
            model=AutoModelForCausalLM.from_pretrained(setting["model"], dtype="float32"),
            args=config_class(**arguments), train_dataset=Dataset.from_dict(columns),
            processing_class=AutoTokenizer.from_pretrained(setting["model"]), callbacks=[_callback(clock)],
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return spent(clock.marks)


SIDES = {
    ("groups", "ours"): our_groups,
    ("groups", "trl"): their_groups,
    ("dpo", "ours"): our_dpo,
    ("dpo", "trl"): their_dpo,
    ("sft", "ours"): our_sft,
    ("sft", "trl"): their_sft,
}


def main(setting: Setting) -> None:
    """Train and print what it took."""
    import torch

    torch.set_num_threads(setting["threads"])
    rows = json.loads(Path(setting["prompts"]).read_text())[setting["policy"]]
    joined = setting.get("prompt_rows", 1)
    prompts = [[*chain(*rows[at : at + joined])] for at in range(0, len(rows), joined)]
    found = SIDES[setting["kind"], setting["side"]](setting, prompts)
    found["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps(found))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
