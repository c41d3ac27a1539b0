"""A model whose layers compute in float32 with their weights rounded to another type, for a measurement."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from constitute.train.common import lora


def exact(model: Any) -> AbstractContextManager[None]:
    """Inside, the model computes in float32 even where it holds frozen weights in fewer bits."""
    fewer = any(weight.dtype in (torch.bfloat16, torch.float16) for weight in model.parameters())
    return rounded(model, torch.float32) if fewer else nullcontext()


@contextmanager
def rounded(model: Any, dtype: torch.dtype) -> Iterator[None]:
    """Inside, each layer computes with its weights rounded to `dtype`, adapters merged, in fp32 otherwise.

    A step below half a unit of the dtype's last place changes nothing in an engine that rounds, so only
    this model's change can be asked of it. One layer at a time is rounded, which spares a copy.
    """
    carriers = lora.layers(model)
    plain = {name: module for name, module in model.named_modules() if name not in carriers}
    kept: dict[int, list[tuple[Any, Tensor]]] = {}

    def enter(module: Any, _: Any) -> None:
        carries = module in carriers.values()
        holder = module.base_layer if carries else module
        own = [(weight, weight.data) for weight in holder.parameters(recurse=False)]
        for weight, data in own:
            whole = data.to(torch.promote_types(data.dtype, torch.float32))
            if carries and weight is holder.weight:
                whole = whole + module.get_delta_weight(lora.POLICY)
            weight.data = whole.to(dtype).to(whole.dtype)
        if carries:
            # Its part is in the weight now.
            module._disable_adapters = True
        kept[id(module)] = own

    def leave(module: Any, *_: Any) -> None:
        for weight, data in kept.pop(id(module), ()):
            weight.data = data
        if module in carriers.values():
            module._disable_adapters = False

    inside = [module for name, module in plain.items() if not _within(name, carriers)]
    with ExitStack() as hooks:
        for module in [*inside, *carriers.values()]:
            hooks.callback(module.register_forward_pre_hook(enter).remove)
            hooks.callback(module.register_forward_hook(leave).remove)
        try:
            yield
        finally:
            for own in kept.values():
                for weight, data in own:
                    weight.data = data
            for carrier in carriers.values():
                carrier._disable_adapters = False


def _within(name: str, carriers: Any) -> bool:
    return any(name.startswith(f"{carrier}.") for carrier in carriers)
