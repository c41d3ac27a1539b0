"""The least time an update could take here: the engine's own rollout, and bare arithmetic for the rest.

`floor.py TASK` measures the rate of the policy's own matrix products, forward and backward, and prints one
JSON line. Attention, norms, the optimizer and Python count as nothing, so no trainer can reach the floor.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

ROWS = 4096
SECONDS = 3.0


def passes(epochs: int, *, shared: bool) -> int:
    """FLOPs an update spends on a parameter and a token, generation apart.

    2 for each forward: old log-probabilities, reference, values and reward model; 6 for each forward and
    backward of the policy and of the critic, in every epoch. A shared trunk has no critic of its own.
    """
    return 6 + 6 * epochs if shared else 8 + 12 * epochs


def floor_seconds(
    generate_s: float, tokens: float, parameters: int, flops_per_s: float, epochs: int, *, shared: bool
) -> float:
    """Measured seconds of generation plus the nominal FLOPs of an update at the measured rate.

    `parameters` counts the weights of matrix products alone; `tokens` are prompts and completions.
    """
    return generate_s + passes(epochs, shared=shared) * parameters * tokens / flops_per_s


def matrices(config: object) -> list[tuple[int, int]]:
    """(inputs, outputs) of each linear layer of a Llama, the output layer last."""
    width, inner = config.hidden_size, config.intermediate_size  # type: ignore[attr-defined]
    layer = [(width, width)] * 4 + [(width, inner)] * 2 + [(inner, width)]
    return layer * config.num_hidden_layers + [(width, config.vocab_size)]  # type: ignore[attr-defined]


def rate(shapes: list[tuple[int, int]], rows: int = ROWS, seconds: float = SECONDS) -> float:
    """FLOPs a second in fp32 over one product forward and two backward of each shape, best of the passes."""
    import torch

    kinds = sorted(set(shapes))
    made = [(torch.randn(rows, i), torch.randn(i, o), torch.randn(rows, o)) for i, o in kinds]
    work = sum(6 * rows * i * o * shapes.count((i, o)) for i, o in kinds)
    best, started = float("inf"), time.perf_counter()
    while time.perf_counter() - started < seconds:
        spent = 0.0
        for (i, o), (x, w, g) in zip(kinds, made, strict=True):
            begin = time.perf_counter()
            _, _, _ = x @ w, g @ w.T, x.T @ g
            spent += (time.perf_counter() - begin) * shapes.count((i, o))
        best = min(best, spent)
    return work / best


def main(task: Path) -> None:
    """Print the parameters in matrix products and the rate of those products."""
    from transformers import AutoConfig

    shapes = matrices(AutoConfig.from_pretrained(task / "fixed"))
    print(json.dumps({"parameters": sum(i * o for i, o in shapes), "flops_per_s": rate(shapes)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
