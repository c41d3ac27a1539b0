"""The processes that train together: who does which rows, sums over all, and one voice to the outside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn

from constitute.errors import EngineError, UsageError
from constitute.train import _compat

# A peer that died closes its connections at once; this bounds the wait for one that hangs. Rollouts of one
# process keep the others waiting, so it is long.
_TIMEOUT = timedelta(hours=2)
_LOST = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Timed out",
    "timed out",
    "gloo",
)


@dataclass(frozen=True)
class Team:
    """One process of `size`, number `rank`; process 0 samples, writes and speaks for all."""

    accelerator: Any
    rank: int
    size: int

    @property
    def main(self) -> bool:
        """Whether this process speaks for all."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        device: torch.device = self.accelerator.device
        return device

    def sum(self, value: Tensor) -> Tensor:
        """The sum of `value` over the processes, in each of them."""
        if self.size == 1:
            return value
        total = value.clone()
        torch.distributed.all_reduce(total)
        return total

    def share(self, value: Any) -> Any:
        """Process 0's `value`, in every process."""
        if self.size == 1:
            return value
        held = [value if self.main else None]
        torch.distributed.broadcast_object_list(held, src=0, device=self.device)
        return held[0]

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add up the gradients of all processes; one without rows counts as zero."""
        if self.size == 1:
            return
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        flat = torch.cat([grad.flatten() for grad in grads])
        torch.distributed.all_reduce(flat)
        for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = part.view_as(parameter).clone()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Name the phase in which another process was lost: `EngineError` in place of a socket's message."""
        try:
            yield
        except RuntimeError as problem:
            if self.size == 1 or not any(words in str(problem) for words in _LOST):
                raise
            raise EngineError(
                f"process {self.rank} of {self.size} lost another process in phase {name!r}; see the "
                "launcher's report for its rank, then run the same command to go on from the last checkpoint"
            ) from problem


def gather_team() -> Team:
    """This process's place among those `accelerate launch` started.

    Raises `UsageError` for a launch that shards the weights (FSDP, DeepSpeed): only plain data
    parallelism is supported where the trainer is our own.
    """
    _compat.quiet()
    from accelerate import Accelerator, InitProcessGroupKwargs

    bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    accelerator = Accelerator(
        mixed_precision="bf16" if bf16 else "no",
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_TIMEOUT)],
    )
    kind = str(accelerator.distributed_type.value)
    if kind not in ("NO", "MULTI_GPU", "MULTI_CPU"):
        raise UsageError(
            f"this trainer does not run under {kind}; use plain data parallelism "
            "(`accelerate launch --num_processes N`), with LoRA where the weights do not fit"
        )
    return Team(accelerator, accelerator.process_index, accelerator.num_processes)


def deal(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Rows of each process: dealt to and fro from the longest, so that all get like numbers of tokens."""
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    hands: list[list[int]] = [[] for _ in range(size)]
    for place, row in enumerate(order):
        lap, seat = divmod(place, size)
        hands[seat if lap % 2 == 0 else size - 1 - seat].append(row)
    return [sorted(hand) for hand in hands]
