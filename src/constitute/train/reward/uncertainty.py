"""How little a reward model knows of an answer: the standard error of its score, and pessimism by it.

The reward is linear in the last hidden state phi of an answer, so what pairs say of it is their information
matrix, and a reward that was chosen because it is high is safer at its lower confidence bound: reward -
penalty * ||phi - nu|| in the norm of that matrix's inverse (arXiv 2301.11270).
Deviates from the paper in three: pairs count by p (1 - p), as in the Fisher information, so that the norm
is a standard error; the ridge is the precision of the head's initial weights, which is what is believed where
no pair says anything; and the bound is taken answer by answer, not of a policy's mean. Features are those of
the trunk as it is after training, and the head is not trained to the optimum: the errors are nominal.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from constitute.errors import UsageError

FILE = "uncertainty.safetensors"


@dataclass(frozen=True)
class Uncertainty:
    """`centre_D` is nu, the mean feature of training answers; `root_DD` the matrix's inverse root."""

    centre_D: Tensor
    root_DD: Tensor

    def errors(self, states_BD: Tensor) -> Tensor:
        """Standard error (B,) of each raw score, relative to that of the centre."""
        return ((states_BD.float() - self.centre_D) @ self.root_DD.T).norm(dim=1)

    def save(self, folder: Path) -> None:
        """Write it beside a model."""
        from safetensors.torch import save_file

        tensors = {"centre": self.centre_D, "root": self.root_DD}
        save_file(
            {name: tensor.float().cpu().contiguous() for name, tensor in tensors.items()}, folder / FILE
        )


def load_uncertainty(folder: str) -> Uncertainty:
    """What `save` wrote; raises `UsageError` where it is missing."""
    from safetensors.torch import load_file

    path = Path(folder) / FILE
    if not path.is_file():
        raise UsageError(
            f"{folder} scores by a lower bound and has no {FILE}; copy that file from where it was trained"
        )
    found = load_file(path)
    return Uncertainty(found["centre"], found["root"])


def measure(chosen_ND: Tensor, rejected_ND: Tensor, weight_D: Tensor, weights_N: Tensor) -> Uncertainty:
    """The uncertainty that pairs leave, from the features of both sides and the head's weights.

    A = (D + 1) I + sum over pairs of w p (1 - p) x x^T, with x = phi(chosen) - phi(rejected) and
    p = sigmoid(x . head); D + 1 is the precision of head weights drawn from N(0, 1 / (D + 1)).
    """
    x_ND = (chosen_ND - rejected_ND).double()
    prob_N = (x_ND @ weight_D.double()).sigmoid()
    spread_N = weights_N.double() * prob_N * (1.0 - prob_N)
    width = x_ND.shape[1]
    matrix_DD = (width + 1.0) * torch.eye(width, dtype=torch.float64) + x_ND.T @ (spread_N[:, None] * x_ND)
    root_DD = torch.linalg.solve_triangular(
        torch.linalg.cholesky(matrix_DD), torch.eye(width, dtype=torch.float64), upper=False
    )
    centre_D = torch.cat([chosen_ND, rejected_ND]).double().mean(dim=0)
    return Uncertainty(centre_D.float(), root_DD.float())
