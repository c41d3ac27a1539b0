"""Muon in float32: momentum whose step is orthogonalised, for the matrices inside a transformer.

Method: K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024), with the
update scaled to AdamW's usual size as in arXiv 2502.16982, section 2.2. torch's own Muon computes in
bfloat16, which many CPUs do slowly or not at all.
"""

from __future__ import annotations

import torch


def orthogonalise(matrices_NRC: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Bring each matrix's singular values near 1 by a quintic Newton-Schulz iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    transposed = matrices_NRC.shape[1] > matrices_NRC.shape[2]
    x = matrices_NRC.mT if transposed else matrices_NRC
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if transposed else x


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay; every parameter is a matrix."""

    def __init__(
        self, params: list[torch.nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all matrices; those of one shape are orthogonalised together."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[torch.nn.Parameter]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    by_shape.setdefault(p.shape, []).append(p)
            for shape, same in by_shape.items():
                self._step_shape(shape, same, group)

    def _step_shape(self, shape: torch.Size, same: list[torch.nn.Parameter], group: dict[str, float]) -> None:
        momentum = group["momentum"]
        directions = []
        for p in same:
            state = self.state[p]
            if "buffer" not in state:
                state["buffer"] = torch.zeros_like(p)
            assert p.grad is not None
            state["buffer"].lerp_(p.grad, 1 - momentum)
            directions.append(p.grad.lerp(state["buffer"], momentum))
        updates = orthogonalise(torch.stack(directions))
        scale = 0.2 * max(shape) ** 0.5
        for p, update in zip(same, updates, strict=True):
            p.mul_(1 - group["lr"] * group["weight_decay"])
            p.add_(update, alpha=-group["lr"] * scale)
