"""AdamW in three forms: PyTorch's, one with moments of 8 bits, one with moments and update on the CPU.

All decouple weight decay (arXiv 1711.05101), which the trainers here leave at 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from constitute.errors import UsageError

_BETAS = (0.9, 0.999)


class OffloadedAdamW(torch.optim.Optimizer):
    """AdamW whose moments lie in host memory and whose update is computed there, a tensor at a time.

    Numbers and state are those of `torch.optim.AdamW(fused=True)` on a CPU, so that a run may go on with
    either. Weights are not kept twice: a step fetches each with its gradient and writes it back.
    """

    def __init__(
        self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = _BETAS, eps: float = 1e-8
    ) -> None:
        # The same settings by the same names, so that either reads what the other stored.
        like = torch.optim.AdamW([torch.zeros(1)], lr, betas, eps, weight_decay=0.0, fused=True)
        super().__init__(params, like.defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take a step for every weight that has a gradient."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, group)
        return loss

    def _update(self, weight: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state["step"] = torch.tensor(0.0)
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = torch.zeros(weight.shape, dtype=torch.float32)
        here = weight.detach().to("cpu", torch.float32)
        adamw(
            [here],
            [grad.to("cpu", torch.float32)],
            [state["exp_avg"]],
            [state["exp_avg_sq"]],
            [],
            [state["step"]],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=0.0,
            eps=group["eps"],
            maximize=False,
        )
        weight.copy_(here)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take a stored state. PyTorch's own way would move the moments to where the weights are."""
        super().load_state_dict({**state_dict, "state": {}})
        weights = [weight for group in self.param_groups for weight in group["params"]]
        for place, values in state_dict["state"].items():
            self.state[weights[place]] = {name: value.to("cpu", copy=True) for name, value in values.items()}


def optimizer_class(
    name: str, *, sharded: bool = False
) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
    """The class of the optimizer `name` and its settings besides rate, betas and epsilon.

    Raises `UsageError` for 8 bits without torchao, and for any but `adamw` where weights are `sharded`.
    """
    if sharded and name != "adamw":
        raise UsageError(
            f"train.optimizer={name} does not go with sharded weights, whose moments are split over the "
            "processes already; set train.optimizer=adamw"
        )
    if name == "adamw_8bit":
        return _eight_bits(), {"weight_decay": 0.0}
    if name == "adamw_offload":
        return OffloadedAdamW, {}
    return torch.optim.AdamW, {"weight_decay": 0.0, "fused": True}


def _eight_bits() -> type[torch.optim.Optimizer]:
    """torchao's AdamW: moments of 8 bits in blocks of 256 with a scale each (arXiv 2110.02861)."""
    try:
        from torchao.optim import AdamW8bit
    except ImportError as problem:
        raise UsageError(
            "train.optimizer=adamw_8bit needs the package torchao, which is not installed; run "
            "`pip install torchao` or set train.optimizer=adamw_offload"
        ) from problem
    found: type[torch.optim.Optimizer] = AdamW8bit
    return found


def make_optimizer(
    name: str, groups: Sequence[Any], *, lr: float, eps: float = 1e-8, sharded: bool = False
) -> torch.optim.Optimizer:
    """The optimizer `name` over weights or groups of them, without weight decay; raises `UsageError`."""
    kind, settings = optimizer_class(name, sharded=sharded)
    made: torch.optim.Optimizer = cast(Any, kind)(groups, lr=lr, eps=eps, **settings)
    return made
