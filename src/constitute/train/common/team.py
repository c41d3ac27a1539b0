"""The processes that train together: who works on which rows, sums over all, and who speaks for them."""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from constitute.errors import EngineError, UsageError
from constitute.train.common import _compat, precision, sharding
from constitute.train.common.batching import micro_batches

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
    sharding: sharding.Sharding | None = None
    """How the weights are split over the processes; None where each holds them all."""

    @property
    def main(self) -> bool:
        """Whether this process speaks for all."""
        return self.rank == 0

    @property
    def saves(self) -> bool:
        """Whether this process takes part in saving: the first writes, all give sharded weights."""
        return self.main or self.sharding is not None

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        device: torch.device = self.accelerator.device
        return device

    @property
    def load_device(self) -> torch.device:
        """Where a model is loaded: weights that will be sharded are whole in host memory only."""
        return self.device if self.sharding is None else torch.device("cpu")

    def cut(self, lengths: Sequence[int], token_budget: int) -> list[list[int]]:
        """`micro_batches` of this process's rows; with sharded weights, every process gets as many."""
        return self.in_step(micro_batches(lengths, token_budget))

    def in_step(self, pieces: list[list[int]]) -> list[list[int]]:
        """`pieces`, filled up with empty ones where all processes must make the same number of passes."""
        return pieces if self.sharding is None else sharding.level(pieces, self.device)

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
        """Add up the gradients of all processes; one without rows adds zero. Sharded ones are sums."""
        if self.size == 1 or self.sharding is not None:
            return
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        flat = torch.cat([grad.flatten() for grad in grads])
        torch.distributed.all_reduce(flat)
        for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = part.view_as(parameter).clone()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Raise `EngineError` that names the phase where another process is lost, not a socket's message."""
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
    """This process's place among those `accelerate launch` started, and how it splits the weights.

    Raises `UsageError` for a launch by DeepSpeed or another scheme that this trainer does not know, and
    for processes that do not know of one another.
    """
    _compat.quiet()
    from accelerate import Accelerator, InitProcessGroupKwargs

    # Refused here, before accelerate asks for a package that nobody needs.
    if _asked("ACCELERATE_USE_DEEPSPEED"):
        raise _refused("DEEPSPEED")
    accelerator = Accelerator(
        mixed_precision="bf16" if precision.half() else "no",
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_TIMEOUT)],
    )
    kind = str(accelerator.distributed_type.value)
    if kind not in ("NO", "MULTI_GPU", "MULTI_CPU", "FSDP"):
        raise _refused(kind)
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != accelerator.num_processes:
        raise UsageError(
            f"{started} processes were started and none sees the others; on CPUs set ACCELERATE_USE_CPU=true"
        )
    if accelerator.num_processes > 1 and accelerator.device.type == "cpu":
        _leave_at_exit()
    plan = None
    if accelerator.num_processes > 1 and sharded_launch():
        plan = sharding.launched_sharding(accelerator.device)
    return Team(accelerator, accelerator.process_index, accelerator.num_processes, plan)


def sharded_launch() -> bool:
    """Whether the launch asks for sharded weights (FSDP)."""
    return _asked("ACCELERATE_USE_FSDP")


@cache
def _leave_at_exit() -> None:
    atexit.register(_leave)


def _leave() -> None:
    # gloo's threads abort a finished process when they outlive the interpreter (pytorch issue 190489), and
    # they end with the last reference to their group.
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        sharding.forget_mesh()
        gc.collect()


def _asked(name: str) -> bool:
    return os.environ.get(name, "false").lower() in ("true", "1")


def _refused(kind: str) -> UsageError:
    return UsageError(
        f"this trainer does not run under {kind}; to shard the weights take FSDP2: "
        "`accelerate launch --config_file` with examples/accelerate/fsdp2.yaml (weights, gradients and "
        "optimizer state, as ZeRO-3) or examples/accelerate/fsdp2_grads.yaml (as ZeRO-2)"
    )


def deal(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Rows of each process, shared out from the longest on, so that all get about as many tokens."""
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    hands: list[list[int]] = [[] for _ in range(size)]
    for place, row in enumerate(order):
        lap, seat = divmod(place, size)
        hands[seat if lap % 2 == 0 else size - 1 - seat].append(row)
    return [sorted(hand) for hand in hands]
