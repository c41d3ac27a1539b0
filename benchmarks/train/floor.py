"""The least time an update could take here: the engine's own rollout, and the arithmetic that the algorithm
cannot do without, at the best rate of matrix products that this machine shows.

Counted are the products of every linear layer and of causal attention, forward and backward, each once:
the first epoch's forward also gives the old log-probabilities, the prompt is passed once for its samples, the
last layer and the output layer compute only what is read. Norms, the optimizer, Python and memory traffic
count as nothing. So no trainer of the same algorithm can reach it.

`floor.py MODEL` prints the rate of the model's products as one JSON line.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROWS = (1024, 4096)
SECONDS = 3.0
# Multiplication and addition; a backward pass makes two products for each of the forward.
_FORWARD, _BOTH = 2, 6


class Shape(NamedTuple):
    """The sizes of a Llama: layers, hidden width, widths of queries and of keys, inner width, vocabulary."""

    layers: int
    width: int
    queries: int
    keys: int
    inner: int
    vocabulary: int

    @property
    def rest(self) -> int:
        """Weights of a layer but those of keys and values."""
        return 2 * self.width * self.queries + 3 * self.width * self.inner


class Group(NamedTuple):
    """The tokens of a prompt and of each of its responses."""

    prompt: int
    responses: tuple[int, ...]


class Work(NamedTuple):
    """What an update of the algorithm is made of. `critic` is `separate`, `shared` or empty."""

    epochs: int
    critic: str = ""
    reference: bool = True
    reward_model: bool = True


def pass_products(shape: Shape, group: Group, *, head: int, scored: bool = False) -> int:
    """Multiplications of one forward pass over a prompt and its responses.

    Read are the states that predict a response's tokens, or with `scored` those of the last tokens. `head` is
    the width of the output layer.
    """
    ends = 0 if scored else 1
    inputs = [length - ends for length in group.responses]
    tokens = group.prompt + sum(inputs)
    read = len(inputs) if scored else 1 + sum(inputs)
    ahead = sum(length * group.prompt + length * (length + 1) // 2 for length in inputs)
    pairs = group.prompt * (group.prompt + 1) // 2 + ahead
    # In the last layer only the states that are read look back: those of the prompt but its last do not.
    last_pairs = sum(group.prompt + length for length in inputs) if scored else group.prompt + ahead
    keys = 2 * shape.width * shape.keys
    linear = (shape.layers - 1) * tokens * (keys + shape.rest) + tokens * keys + read * shape.rest
    attention = 2 * shape.queries * ((shape.layers - 1) * pairs + last_pairs)
    return linear + attention + read * shape.width * head


def update_flops(shape: Shape, groups: Sequence[Group], work: Work) -> int:
    """FLOPs of one update over `groups`, generation apart."""
    total = 0
    for group in groups:
        policy = pass_products(shape, group, head=shape.vocabulary)
        values = pass_products(shape, group, head=1)
        total += _BOTH * work.epochs * policy
        if work.critic == "separate":
            total += _BOTH * work.epochs * values
        if work.reference:
            total += _FORWARD * policy
        if work.reward_model:
            total += _FORWARD * pass_products(shape, group, head=1, scored=True)
    return total


def shape_of(config: object) -> Shape:
    """The sizes that a Llama's configuration names."""
    held = vars(config)
    heads, keys = held["num_attention_heads"], held["num_key_value_heads"]
    size = held.get("head_dim") or held["hidden_size"] // heads
    return Shape(
        held["num_hidden_layers"], held["hidden_size"], heads * size, keys * size,
        held["intermediate_size"], held["vocab_size"],
    )  # fmt: skip


def rate(shape: Shape, seconds: float = SECONDS) -> float:
    """FLOPs a second in fp32 over products forward and backward of the model's linear layers.

    Each product counts at its best time over all passes and over several numbers of rows.
    """
    import torch

    width = shape.width
    sizes = [(width, shape.queries), (width, shape.keys), (width, shape.inner), (shape.inner, width)]
    weights = [2, 2, 2, 1]
    best: dict[tuple[int, int], float] = {}
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        for rows in ROWS:
            for size in sizes:
                x, w, g = torch.randn(rows, size[0]), torch.randn(*size), torch.randn(rows, size[1])
                begin = time.perf_counter()
                _, _, _ = x @ w, g @ w.T, x.T @ g
                spent = (time.perf_counter() - begin) / rows
                best[size] = min(best.get(size, float("inf")), spent)
    work = sum(count * 6 * size[0] * size[1] for size, count in zip(sizes, weights, strict=True))
    return work / sum(count * best[size] for size, count in zip(sizes, weights, strict=True))


def main(model: Path) -> None:
    """Print the model's sizes and the rate of its products."""
    from transformers import AutoConfig

    shape = shape_of(AutoConfig.from_pretrained(model))
    print(json.dumps({"shape": shape, "flops_per_s": rate(shape)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
