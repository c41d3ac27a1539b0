"""Which model sizes fit which GPUs, as `constitute train plan` says, for public architectures.

`python -m benchmarks train.sizes`. Nothing is measured here; tests hold the planner to counted bytes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

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
SETTINGS: dict[str, tuple[str, dict[str, object]]] = {
    "sft, all weights": ("sft", {"gradient_checkpointing": True, "device_batch_size": 1}),
    "sft, LoRA": ("sft", {"gradient_checkpointing": True, "device_batch_size": 1, "lora_rank": 16}),
    "reward": ("reward", _LEAN),
    "dpo, LoRA": ("dpo", {**_LEAN, "lora_rank": 16}),
    "grpo, all weights": ("grpo", _LEAN),
    "grpo, LoRA": ("grpo", {**_LEAN, "lora_rank": 16}),
    "ppo, LoRA, shared critic": ("ppo", {**_LEAN, "lora_rank": 16, "critic": "shared"}),
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


def planned(folder: Path, method: str, own: dict[str, object], gpu: Gpu, count: int) -> Plan:
    """The plan of one cell of the table."""
    config = RunConfig.model_validate({"model": str(folder), "train": {method: own}})
    (plan,) = plan_training(config, [method], str(folder), gpu, count=count, sharded=count > 1)
    return plan


def main(_: Sequence[str] = ()) -> None:
    """Print the GiB that each takes of one GPU, and whether that fits."""
    rows = []
    with tempfile.TemporaryDirectory() as inside:
        for name in MODELS:
            folder = folder_of(name, Path(inside))
            for what, (method, own) in SETTINGS.items():
                cells = []
                for gpu, count in MACHINES.values():
                    plan = planned(folder, method, own, gpu, count)
                    cells.append(f"{'fits' if plan.fits else 'no'} ({plan.most / GIB:.0f})")
                rows.append((name, what, *cells))
    print(table(("model", "training", *MACHINES), rows))


if __name__ == "__main__":
    main()
