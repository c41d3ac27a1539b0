"""Sharded training (FSDP2): each process holds its part of every weight, gradient and optimizer state.

Weights are made whole layer by layer for the time of a pass, through hooks on the modules' forward, so each
pass is an exchange between all processes: all must make the same number of passes in the same order.
Gradients are summed over the processes, not averaged, as the losses here divide by totals over all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from constitute.errors import UsageError
from constitute.train.common import lora, precision


@dataclass(frozen=True)
class Sharding:
    """Over which processes, and whether weights are freed again between forward and backward.

    With `reshard` only one layer is whole at a time (as in ZeRO-3); without, weights stay whole from the
    forward to the backward pass, which spares one exchange (as in ZeRO-2).
    """

    mesh: Any
    reshard: bool
    half: bool = False
    """Whether weights are gathered in bfloat16, as autocast would cast them; gradients are summed in
    float32."""


def launched_sharding(device: torch.device) -> Sharding:
    """What the launch asks for, as accelerate reads it. Raises `UsageError` for what is not supported."""
    from accelerate import FullyShardedDataParallelPlugin

    plugin = FullyShardedDataParallelPlugin()
    if plugin.fsdp_version != 2:
        raise UsageError(
            "this trainer shards with FSDP2 and the launch asks for FSDP1; set fsdp_version: 2, as in "
            "examples/accelerate/fsdp2.yaml"
        )
    for wanted, name in (
        (_offloads(plugin), "fsdp_offload_params"),
        (plugin.activation_checkpointing, "fsdp_activation_checkpointing"),
        (plugin.cpu_ram_efficient_loading, "fsdp_cpu_ram_efficient_loading"),
    ):
        if wanted:
            raise UsageError(
                f"this trainer does not support {name}; set it to false (examples/accelerate/fsdp2.yaml) and "
                "save memory by gradient_checkpointing=true and a lower microbatch_tokens"
            )
    return Sharding(_mesh(device.type), bool(plugin.reshard_after_forward), precision.half())


def _offloads(plugin: Any) -> bool:
    from torch.distributed.fsdp import CPUOffloadPolicy

    return plugin.cpu_offload is True or isinstance(plugin.cpu_offload, CPUOffloadPolicy)


@cache
def _mesh(kind: str) -> Any:
    """All processes in a row."""
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh(kind, (torch.distributed.get_world_size(),))


def forget_mesh() -> None:
    """Forget the group of processes; only for the end of a process."""
    _mesh.cache_clear()


def shard_actor(sharding: Sharding, actor: Any, *, frozen: bool = False) -> None:
    """Shard a `models.Actor` in place: its layers, its trunk and its output layer.

    An output layer tied to the embedding must be whole with it: then both hang on the actor's own methods.
    """
    trunk, output = actor.model.base_model, actor.model.get_output_embeddings()
    if output.weight is not actor.model.get_input_embeddings().weight:
        shard_trunk(sharding, trunk, frozen=frozen)
        _shard(sharding, output, frozen)
        return
    from torch.distributed.fsdp import register_fsdp_forward_method

    shard_trunk(sharding, trunk, frozen=frozen, layers_only=True)
    _shard(sharding, actor, frozen)
    for method in ("trunk_states", "logprobs"):
        register_fsdp_forward_method(actor, method)


def shard_trunk(
    sharding: Sharding, trunk: Any, *, head: Any = None, frozen: bool = False, layers_only: bool = False
) -> None:
    """Shard a transformer without its output layer, layer by layer, then what is left, then its head."""
    names = set(getattr(trunk, "_no_split_modules", None) or ())
    for layer in [module for module in trunk.modules() if type(module).__name__ in names]:
        _shard(sharding, layer, frozen)
    if not layers_only:
        _shard(sharding, trunk, frozen)
    if head is not None:
        shard_head(sharding, head, frozen=frozen)


def shard_head(sharding: Sharding, head: Any, *, frozen: bool = False) -> None:
    """Shard a head of scores or values; in bfloat16 it could not tell good answers apart, so in float32."""
    _shard(replace(sharding, half=False), head, frozen)


def _shard(sharding: Sharding, module: Any, frozen: bool) -> None:
    """Split what `module` holds outside the modules split before; moves it to the mesh's device."""
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    # Without it autocast casts each whole weight and keeps the copy from the forward to the backward pass.
    half = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    held = half if sharding.half else MixedPrecisionPolicy()
    # A frozen model has no backward pass that would free its weights.
    wanted = sharding.reshard or frozen
    fully_shard(module, mesh=sharding.mesh, reshard_after_forward=wanted, mp_policy=held)
    # Sums over the processes. Forced, for gloo knows no scaled sum.
    module.set_gradient_divide_factor(1.0)
    module.set_force_sum_reduction_for_comms(True)


def is_sharded(module: nn.Module) -> bool:
    """Whether any part of `module` is sharded."""
    return bool(_parts(module))


def _parts(module: nn.Module) -> list[Any]:
    """The modules that `fully_shard` was called on."""
    return [part for part in module.modules() if hasattr(part, "set_requires_gradient_sync")]


def in_step(module: nn.Module, pieces: list[list[int]]) -> list[list[int]]:
    """The pieces that a process gives `module`; where it is sharded, every process gets as many (`level`)."""
    if not is_sharded(module):
        return pieces
    return level(pieces, next(module.parameters()).device)


def level(pieces: list[list[int]], device: torch.device) -> list[list[int]]:
    """`pieces`, and then empty ones until every process has the same number."""
    most = torch.tensor(len(pieces), device=device)
    torch.distributed.all_reduce(most, torch.distributed.ReduceOp.MAX)
    return pieces + [[] for _ in range(int(most) - len(pieces))]


def clip_grad_norm(parameters: Sequence[nn.Parameter], limit: float) -> float:
    """Scale the gradients to a norm of at most `limit`, taken over all of them in all processes."""
    norm = whole(nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
    nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return float(norm)


def reshard(module: nn.Module) -> None:
    """Free the weights that a pass without backward left whole, so that none is stale after a step."""
    for part in _parts(module):
        part.reshard()


def whole(tensor: Any) -> Tensor:
    """The whole of a tensor from all processes' parts, or the tensor where it has none. All must call it."""
    full: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return full


def identity(tensor: Any) -> int:
    """A number that is the same for two tensors exactly where they share their memory."""
    # Parts may be empty, and then have no memory to tell them by.
    return id(tensor) if hasattr(tensor, "full_tensor") else tensor.data_ptr()


def whole_model(model: Any, dtype: torch.dtype | None = None, adapter: str = lora.POLICY) -> Any:
    """A Hugging Face model with plain weights in `dtype`, adapters merged; `model` itself where it is that.

    Without a `dtype` weights keep the type they have. A copy is made in host memory one tensor at a time,
    merged in float32 and rounded last, so that the device holds one tensor more. Where the model is sharded
    all processes must call this; the first gets the copy and the others None.
    """
    sharded = is_sharded(model)
    adapted = any(".lora_" in name for name, _ in model.named_parameters())
    as_wanted = dtype is None or {weight.dtype for weight in model.parameters()} <= {dtype}
    if not sharded and not adapted and as_wanted:
        return model
    reshard(model)
    plain = lora.plain_state(model, adapter)
    state = dict(_gathered(plain, dtype) if sharded else _in_host_memory(plain, dtype))
    if sharded and torch.distributed.get_rank():
        return None
    with torch.device("meta"):
        merged = type(model)(model.config)
    merged.load_state_dict(state, assign=True)
    merged.tie_weights()
    merged.generation_config = getattr(model, "generation_config", None)
    # What the checkpoint called the weights, which are saved as they were loaded.
    merged._weight_conversions = getattr(model, "_weight_conversions", None)
    return merged


def _in_host_memory(
    named: Iterator[tuple[str, Tensor]], dtype: torch.dtype | None
) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in named:
        yield name, _rounded(tensor.detach().to("cpu", copy=True), dtype).contiguous()


def _rounded(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """A float tensor in `dtype`; others, such as masks that are stored, as they are."""
    return tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor


def _gathered(
    named: Iterator[tuple[str, Any]], dtype: torch.dtype | None = None
) -> Iterator[tuple[str, Tensor]]:
    """The tensors, whole, in the first process's host memory; the others must iterate too and get nothing."""
    main = torch.distributed.get_rank() == 0
    for name, tensor in named:
        full = whole(tensor.detach())
        if main:
            yield name, _rounded(full.to("cpu", copy=True), dtype).contiguous()


def gather_state(model: nn.Module, optimizer: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Whole weights (tied ones once) and optimizer state of a sharded model, in the first process.

    All must call it; the others get empty dicts. Both are as an unsharded run would have them.
    """
    reshard(model)
    first = {identity(tensor): name for name, tensor in reversed(model.state_dict(keep_vars=True).items())}
    once = set(first.values())
    weights = dict(_gathered(item for item in model.state_dict(keep_vars=True).items() if item[0] in once))
    stored = optimizer.state_dict()
    state = {
        place: dict(_gathered(iter(values.items()))) for place, values in sorted(stored["state"].items())
    }
    return weights, {**stored, "state": state}


@torch.no_grad()
def load_weights(model: nn.Module, path: Path) -> None:
    """Take this process's parts from a file of whole weights. `UsageError` where some are missing."""
    from safetensors import safe_open

    reshard(model)
    ours = model.state_dict(keep_vars=True)
    with safe_open(str(path), "pt") as file:
        held = set(file.keys())
        known = {id(tensor) for name, tensor in ours.items() if name in held}
        lacking = [name for name, tensor in ours.items() if id(tensor) not in known]
        if lacking or held - set(ours):
            raise UsageError(f"{path} is of another model ({(lacking or sorted(held - set(ours)))[0]})")
        for name in held:
            local = ours[name].to_local() if hasattr(ours[name], "to_local") else ours[name]
            local.copy_(part_of(file.get_tensor(name), ours[name]))


def load_optimizer(optimizer: Any, stored: dict[str, Any]) -> None:
    """Load a whole optimizer state; this process keeps its parts of it."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = {
        place: {
            name: _parted(value, parameters[place])
            if isinstance(value, Tensor) and value.shape == parameters[place].shape
            else value
            for name, value in values.items()
        }
        for place, values in stored["state"].items()
    }
    optimizer.load_state_dict({**stored, "state": state})


def part_of(full: Tensor, like: Any) -> Tensor:
    """This process's part of a whole tensor, split as `like` is split; all of it where `like` is whole."""
    parted = _parted(full, like)
    local: Tensor = parted.to_local() if hasattr(parted, "to_local") else parted
    return local


def _parted(full: Tensor, like: Any) -> Any:
    if not hasattr(like, "device_mesh"):
        return full
    from torch.distributed.tensor import distribute_tensor

    # Every process has read the whole: nothing to send.
    return distribute_tensor(full, like.device_mesh, like.placements, src_data_rank=None)
