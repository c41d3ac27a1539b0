"""LoRA inside a model: adapters by name, one of them active, none of them for the reference.

arXiv 2106.09685. The adapters live in the model's own layers, so that its trunk is called as ever.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from constitute.errors import UsageError
from constitute.progress import Progress

POLICY, CRITIC = "policy", "critic"


class Rated(Protocol):
    """The settings of a trainer of weights or of adapters, with the learning rate that adapters want."""

    lora_learning_rate: ClassVar[float]

    @property
    def learning_rate(self) -> float: ...
    @property
    def lora_rank(self) -> int: ...


def note_rate(settings: Rated, section: str, progress: Progress) -> None:
    """Say that adapters are trained at the default rate of full weights, at which they hardly move."""
    if not settings.lora_rank or settings.learning_rate != type(settings)().learning_rate:
        return
    rate, rank = f"train.{section}.learning_rate", f"train.{section}.lora_rank"
    progress.note(
        f"{rate} is {settings.learning_rate:g}, which is for training all weights, and "
        f"{rank}={settings.lora_rank} trains adapters; set {rate}={settings.lora_learning_rate:g}"
    )


def add_adapter(model: Any, name: str, rank: int) -> None:
    """Put adapters of `rank` on every linear layer but the output layer, scaled by 2 (alpha = 2 r).

    Adapters are in float32 whatever the model is in, and they alone learn. The first of a model is the one
    it runs with. Raises `UsageError` for a mixture of experts, whose adapters `plain_state` cannot merge.
    """
    from peft import LoraConfig

    # Two adapters on one model are what is wanted here; PEFT warns of the second.
    warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")
    model.add_adapter(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear"), adapter_name=name)
    if on_experts(model):
        raise UsageError(
            f"{type(model).__name__} is a mixture of experts, and adapters on experts cannot be merged into "
            "its weights here; set lora_rank=0 to train every weight"
        )
    for weight in parameters(model, name):
        # PEFT takes the dtype of the layer, and steps of Adam are lost in bfloat16.
        weight.data = weight.data.float()
    _activate(model, next(iter(next(iter(layers(model).values())).lora_A)))


def on_experts(model: nn.Module) -> bool:
    """Whether adapters lie on experts, which are no layers of their own."""
    from peft.tuners.lora import ParamWrapper

    return any(isinstance(layer, ParamWrapper) for layer in layers(model).values())


def layers(model: nn.Module) -> dict[str, Any]:
    """The layers that carry adapters, by their names in the model."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return {name: module for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)}


def parameters(model: nn.Module, name: str) -> list[nn.Parameter]:
    """The weights of one adapter."""
    return [
        weight
        for place, weight in model.named_parameters()
        if f".lora_A.{name}." in place or f".lora_B.{name}." in place
    ]


@contextmanager
def active(model: nn.Module, name: str | None) -> Iterator[None]:
    """Inside, the model runs with adapter `name`, or with none: as the model it started from."""
    _activate(model, name)
    try:
        yield
    finally:
        _activate(model, POLICY)


def _activate(model: nn.Module, name: str | None) -> None:
    # `set_adapter` would also freeze every other adapter, and both learn here.
    for layer in layers(model).values():
        layer._disable_adapters = name is None
        if name is not None:
            layer._active_adapter = [name]
    for place, weight in model.named_parameters():
        weight.requires_grad_(".lora_" in place)


def plain_state(model: nn.Module, adapter: str = POLICY) -> Iterator[tuple[str, Tensor]]:
    """The model's tensors by their checkpoint names, an adapter merged in, the policy's unless named.

    A merged tensor is in float32 at least, for the adapter's part may be below the last place of the
    weight's own type. One is made at a time, where the weight lies.
    """
    carriers = layers(model)
    for name, tensor in model.state_dict().items():
        if ".lora_" in name:
            continue
        plain = name.replace(".base_layer.", ".")
        owner, _, kind = plain.rpartition(".")
        if owner in carriers and kind == "weight" and adapter in carriers[owner].lora_A:
            delta = carriers[owner].get_delta_weight(adapter)
            yield plain, tensor.to(torch.promote_types(tensor.dtype, delta.dtype)) + delta
        else:
            yield plain, tensor
