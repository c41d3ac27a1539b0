"""Copies of the policy that a run keeps: an average over its iterations, and a reference that is renewed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from constitute.train.common.models import Actor
from constitute.train.common.team import Team
from constitute.train.ppo.sync import named_weights

# Files of a checkpoint, and where OUT has the average as a model.
AVERAGE, REFERENCE = "ema.safetensors", "reference.safetensors"
AVERAGE_FOLDER = "ema"


@dataclass
class Average:
    """average <- decay * average + (1 - decay) * policy, in float32 in host memory, by checkpoint names.

    It starts as the policy that training starts from. Of several processes the first alone keeps it; all go
    through the weights where these are sharded.
    """

    decay: float
    team: Team
    weights: dict[str, Tensor] = field(default_factory=dict)

    def follow(self, model: Any) -> None:
        """Take one step towards the weights of `model`, or start as them."""
        if not self.team.saves:
            return
        for name, tensor in _on_host(named_weights(model)):
            if not self.team.main:
                continue
            if name in self.weights:
                self.weights[name].lerp_(tensor, 1.0 - self.decay)
            else:
                self.weights[name] = tensor

    def load(self, path: Path) -> None:
        """Go on from a checkpoint's file."""
        from safetensors.torch import load_file

        if self.team.main:
            self.weights = load_file(str(path))

    def save(self, folder: Path, policy: Any, tokenizer: Any) -> None:
        """Write it as a plain Hugging Face folder; `policy` gives the configuration."""
        policy.config.save_pretrained(folder)
        if policy.generation_config is not None:
            policy.generation_config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        save_tensors(folder / "model.safetensors", self.weights)


def _on_host(named: Iterable[tuple[str, Tensor]]) -> Iterable[tuple[str, Tensor]]:
    for name, tensor in named:
        yield name, tensor.detach().to("cpu", torch.float32, copy=True)


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as a file that transformers reads."""
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, str(path), {"format": "pt"})


@torch.no_grad()
def renew(reference: Actor, policy: Actor) -> None:
    """Make the frozen reference what the policy is now, in the reference's own dtype."""
    weights = dict(policy.model.named_parameters())
    for name, frozen in reference.model.named_parameters():
        frozen.copy_(weights[name])


def save_reference(path: Path, reference: Actor) -> None:
    """Write a renewed reference; tensors that share their memory once."""
    save_tensors(path, {name: weight.detach() for name, weight in reference.model.named_parameters()})


@torch.no_grad()
def load_reference(path: Path, reference: Actor) -> None:
    """Take the weights of a reference that was renewed before the run was stopped."""
    from safetensors.torch import load_file

    stored = load_file(str(path))
    for name, frozen in reference.model.named_parameters():
        frozen.copy_(stored[name])
