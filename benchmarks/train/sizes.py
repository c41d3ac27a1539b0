"""Which model sizes fit which GPUs, as `constitute train plan` says, for public architectures.

`python -m benchmarks train.sizes`. Nothing is measured here; tests hold the planner to counted bytes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from constitute.cli.text import table
from constitute.config import RunConfig
from constitute.train.plan.plan import Plan, plan_training
from constitute.train.plan.speed import GPUS, Gpu

GIB = 1 << 30
# The published config.json of each: layers, width, inner width, heads, key-value heads, tokens, tied.
MODELS = {
    "Qwen2.5-0.5B": (24, 896, 4864, 14, 2, 151936, True),
    "Llama-3.2-1B": (16, 2048, 8192, 32, 8, 128256, True),
    "Llama-3.2-3B": (28, 3072, 8192, 24, 8, 128256, True),
    "Llama-3.1-8B": (32, 4096, 14336, 32, 8, 128256, False),
}
MACHINES: dict[str, tuple[Gpu, int]] = {
    "24 GB": (GPUS["rtx4090"], 1),
    "48 GB": (GPUS["l40s"], 1),
    "80 GB": (GPUS["h100"], 1),
    "8 x 80 GB, sharded": (GPUS["h100"], 8),
}
_LEAN = {"gradient_checkpointing": True, "microbatch_tokens": 2048}
# The trainer, its settings, and the optimizer where it is not plain AdamW.
SETTINGS: dict[str, tuple[Any, ...]] = {
    "sft, all weights": ("sft", {"gradient_checkpointing": True, "device_batch_size": 1}),
    "sft, LoRA": ("sft", {"gradient_checkpointing": True, "device_batch_size": 1, "lora_rank": 16}),
    "sft, moments on the CPU": (
        "sft",
        {"gradient_checkpointing": True, "device_batch_size": 1},
        "adamw_offload",
    ),
    "reward, all weights": ("reward", _LEAN),
    "reward, 8 bits": ("reward", _LEAN, "adamw_8bit"),
    "reward, LoRA": ("reward", {**_LEAN, "lora_rank": 16}),
    "dpo, LoRA": ("dpo", {**_LEAN, "lora_rank": 16}),
    "grpo, all weights": ("grpo", _LEAN),
    "grpo, LoRA": ("grpo", {**_LEAN, "lora_rank": 16}),
    "ppo, LoRA, shared critic": ("ppo", {**_LEAN, "lora_rank": 16, "critic": "shared"}),
    "ppo, LoRA, separate critic": ("ppo", {**_LEAN, "lora_rank": 16}),
}


def folder_of(name: str, inside: Path) -> Path:
    """A folder with the model's config.json and nothing else."""
    from transformers import LlamaConfig

    layers, width, inner, heads, shared_heads, tokens, tied = MODELS[name]
    config = LlamaConfig(
        num_hidden_layers=layers,
        hidden_size=width,
        intermediate_size=inner,
        num_attention_heads=heads,
        num_key_value_heads=shared_heads,
        vocab_size=tokens,
        tie_word_embeddings=tied,
        max_position_embeddings=8192,
    )
    config.save_pretrained(inside / name)
    return inside / name


def planned(folder: Path, what: str, gpu: Gpu, count: int) -> Plan:
    """The plan of one cell of the table."""
    method, own, *optimizer = SETTINGS[what]
    # Sharded weights take plain AdamW alone.
    train = {method: own} | ({"optimizer": optimizer[0]} if optimizer and count == 1 else {})
    config = RunConfig.model_validate({"model": str(folder), "train": train})
    (plan,) = plan_training(config, [method], str(folder), gpu, count=count, sharded=count > 1, mend=False)
    return plan


def main(_: Sequence[str] = ()) -> None:
    """Print the GiB that each takes of one GPU, and whether that fits."""
    rows = []
    with tempfile.TemporaryDirectory() as inside:
        for name in MODELS:
            folder = folder_of(name, Path(inside))
            for what in SETTINGS:
                cells = []
                for gpu, count in MACHINES.values():
                    plan = planned(folder, what, gpu, count)
                    cells.append(f"{'fits' if plan.fits else 'no'} ({plan.most / GIB:.0f})")
                rows.append((name, what, *cells))
    print(table(("model", "training", *MACHINES), rows))


if __name__ == "__main__":
    main()
