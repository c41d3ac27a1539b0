"""Pairs a second of reward-model training: our loop against TRL's RewardTrainer on the same pairs.

    python -m benchmarks train.reward_step

One Llama of 4 M parameters in fp32, the Bradley-Terry loss (our `labels=hard`), fused AdamW, updates of 64
pairs, no gradient checkpointing, both sides of a pair of 16 to 256 tokens, drawn apart. TRL pads the 8
pairs of a device batch (its default) to their longest side; `grouped` sorts its batches by length. Only the
updates are timed, from the first to the last, not what either sets up before.
"""

from __future__ import annotations

import copy
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from constitute.config.train import RewardConfig
from constitute.data.pairs import PreferencePair
from constitute.progress import Silent
from constitute.train.reward.pairs import TokenPair

PAIRS = 192
BATCH = 64
DEVICE_BATCH = 8
SHORTEST, LONGEST = 16, 256
REPEATS = 5
LEARNING_RATE = 1e-5

Run = Callable[[Any, list[TokenPair]], tuple[float, list[float]]]


def main() -> None:
    """Print pairs a second of each, the ratio to ours in each repeat, and the medians."""
    from constitute.train.common import _compat

    _compat.quiet()
    model = tiny_llama()
    size = sum(weight.numel() for weight in model.parameters())
    systems: dict[str, Run] = {"ours": ours, "TRL": trl, "TRL grouped": trl_grouped}
    check_same_loss(model, systems)
    pairs = drawn_pairs(PAIRS, seed=0)
    tokens = sum(pair.tokens for pair in pairs)
    print(f"{PAIRS} pairs of {tokens / PAIRS:.0f} tokens, {size / 1e6:.1f} M parameters, updates of {BATCH}")
    print(f"{'repeat':>8}" + "".join(f"{name + ' pairs/s':>20}" for name in systems) + "   ratios")
    speeds: dict[str, list[float]] = {name: [] for name in systems}
    for repeat in range(REPEATS):
        for name, run in systems.items():
            seconds, _ = run(copy.deepcopy(model), pairs)
            speeds[name].append(PAIRS / seconds)
        ratios = [speeds["ours"][-1] / speeds[name][-1] for name in systems if name != "ours"]
        row = "".join(f"{speeds[name][-1]:>20.1f}" for name in systems)
        print(f"{repeat:>8}{row}   " + ", ".join(f"{ratio:.2f}" for ratio in ratios), flush=True)
    print("  median" + "".join(f"{statistics.median(speeds[name]):>20.1f}" for name in systems))
    for name in systems:
        if name != "ours":
            ratios = [a / b for a, b in zip(speeds["ours"], speeds[name], strict=True)]
            print(
                f"ours / {name}: {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}, "
                f"n = {REPEATS})"
            )


def tiny_llama() -> Any:
    """A random Llama classifier of about 4 M parameters."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=3200,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=LONGEST,
        pad_token_id=0,
        num_labels=1,
    )
    return LlamaForSequenceClassification(config)


def drawn_pairs(n: int, seed: int) -> list[TokenPair]:
    """Pairs of random tokens; the length of each side is uniform on the spread."""
    rng = random.Random(seed)
    row = PreferencePair((), "a", "b", 1.0)

    def side() -> list[int]:
        return [rng.randrange(3, 3200) for _ in range(rng.randint(SHORTEST, LONGEST))]

    return [TokenPair(side(), side(), 8, row) for _ in range(n)]


def check_same_loss(model: Any, systems: dict[str, Run]) -> None:
    """Refuse to compare speeds unless the first update has the same loss everywhere."""
    pairs = drawn_pairs(BATCH, seed=1)
    losses = {name: run(copy.deepcopy(model), pairs)[1][0] for name, run in systems.items()}
    print("loss of the first update: " + ", ".join(f"{name} {loss:.5f}" for name, loss in losses.items()))
    if max(losses.values()) - min(losses.values()) > 1e-4:
        raise SystemExit("the losses differ, so the speeds say nothing")


def ours(model: Any, pairs: list[TokenPair]) -> tuple[float, list[float]]:
    """Seconds and losses of one epoch of `fit`."""
    from constitute.train.common.fit import Job, fit
    from constitute.train.reward.losses import pair_losses
    from constitute.train.reward.pairs import consecutive

    config = RewardConfig(labels="hard", batch_size=BATCH, learning_rate=LEARNING_RATE)
    clock = Clock()
    with tempfile.TemporaryDirectory() as scratch:
        losses = fit(
            model,
            [pair.tokens for pair in pairs],
            pair_losses(model, model.score, pairs, config, 0, seed=0),
            config,
            Job("reward", Path(scratch), {}, 0, clock),
            cut=consecutive,
        )
    return clock.seconds, losses


class Clock(Silent):
    """Seconds between the start and the end of the training loop."""

    seconds = 0.0

    def start(self, stage: str, total: int | None = None, done: int = 0) -> None:
        self.seconds = -time.perf_counter()

    def finish(self, stage: str) -> None:
        self.seconds += time.perf_counter()


def trl(model: Any, pairs: list[TokenPair]) -> tuple[float, list[float]]:
    """Seconds and losses of one epoch of TRL's trainer, its batches in random order."""
    return _trl(model, pairs, "random")


def trl_grouped(model: Any, pairs: list[TokenPair]) -> tuple[float, list[float]]:
    """The same with batches of like length."""
    return _trl(model, pairs, "group_by_length")


def _trl(model: Any, pairs: list[TokenPair], strategy: str) -> tuple[float, list[float]]:
    from datasets import Dataset
    from transformers import PrinterCallback, TrainerCallback
    from trl import RewardConfig as TRLConfig
    from trl import RewardTrainer

    clock, losses = Clock(), []

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            clock.start("")

        def on_train_end(self, *_: Any, **__: Any) -> None:
            clock.finish("")

        def on_log(self, *_: Any, logs: dict[str, Any], **__: Any) -> None:
            if "loss" in logs:
                losses.append(float(logs["loss"]))

    columns = {
        "chosen_ids": [pair.chosen for pair in pairs],
        "rejected_ids": [pair.rejected for pair in pairs],
        "length": [max(len(pair.chosen), len(pair.rejected)) for pair in pairs],
    }
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TRLConfig(
            output_dir=scratch,
            per_device_train_batch_size=DEVICE_BATCH,
            gradient_accumulation_steps=BATCH // DEVICE_BATCH,
            num_train_epochs=1,
            learning_rate=LEARNING_RATE,
            train_sampling_strategy=strategy,
            length_column_name="length",
            remove_unused_columns=False,
            max_length=None,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            dataloader_pin_memory=False,
            logging_steps=1,
            disable_tqdm=True,
            report_to="none",
            save_strategy="no",
            seed=0,
        )
        trainer = RewardTrainer(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_dict(columns),
            processing_class=_tokenizer(),
            callbacks=[Watch()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return clock.seconds, losses


def _tokenizer() -> Any:
    """What TRL asks of a tokenizer: a pad token of the model's own; the pairs are tokens already."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1, "<unk>": 2}, unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>")


if __name__ == "__main__":
    main()
