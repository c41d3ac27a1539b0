"""Whether a training fits a GPU, and the nearest settings that do."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from constitute.config import RunConfig
from constitute.engines.swap import BESIDE_A_TRAINER
from constitute.errors import UsageError
from constitute.train.plan.given import check_methods
from constitute.train.plan.parts import GIB, PLANNED, Machine, Part, Workload
from constitute.train.plan.shapes import open_shape
from constitute.train.plan.speed import Gpu, seconds_of
from constitute.types import Record

# The CUDA context, cuBLAS and what the allocator cannot use: TRL's and PyTorch's users report 1 to 2 GiB.
_OVERHEAD = int(1.5 * GIB)
_MOST_CHANGES = 4
# The option of `train plan`, and no setting: how training is launched says it.
SHARDED = "--sharded"


class Plan(Record):
    """Bytes on one GPU by part, and by phase, the most of which has to fit into `memory`.

    `changes` are settings that make it fit, KEY=VALUE, or `--sharded` where there are several GPUs; fewest
    first, and empty where it fits or where none of those tried does. `seconds` are an estimate, of an
    iteration of PPO or GRPO or of a million tokens of another trainer; None for a GPU whose speed is not
    known. `note` is what the settings lack on so many GPUs.
    """

    method: str
    model: str
    parameters: int
    gpus: int
    memory: int
    parts: tuple[Part, ...]
    phases: dict[str, int]
    changes: tuple[tuple[str, ...], ...] = ()
    seconds: float | None = None
    note: str = ""

    @property
    def most(self) -> int:
        """Bytes of the phase that holds most."""
        return max(self.phases.values())

    @property
    def fits(self) -> bool:
        """Whether every phase fits."""
        return self.most <= self.memory


def plan_training(
    config: RunConfig,
    methods: Sequence[str],
    model: str,
    gpu: Gpu,
    *,
    count: int = 1,
    sharded: bool = False,
    prompt: int = 256,
    half: bool = True,
    mend: bool = True,
) -> list[Plan]:
    """A plan for each of `methods` on `count` GPUs, with prompts of `prompt` tokens. Loads no weights.

    With `sharded` the weights are split over the GPUs (FSDP2), else each holds them all. With `mend` settings
    that fit are looked for where these do not.

    Raises `UsageError` for a method that is not known and for a model that cannot be built.
    """
    check_methods(methods)
    machine = Machine(gpu.memory, count, sharded)
    work = Workload(config, open_shape(model), machine, prompt, half)
    plans = []
    for method in methods:
        plan = _plan(method, work).model_copy(update={"seconds": seconds_of(method, work, gpu)})
        if mend and not plan.fits:
            plan = plan.model_copy(update={"changes": tuple(_mends(method, work))})
        plans.append(plan)
    return plans


def _plan(method: str, work: Workload) -> Plan:
    parts = [part for part in PLANNED[method](work) if part.bytes]
    if work.half:
        phases = tuple(dict.fromkeys(phase for part in parts for phase in part.phases))
        parts.append(Part(name="CUDA and fragments", bytes=_OVERHEAD, phases=phases))
    names = dict.fromkeys(phase for part in parts for phase in part.phases)
    held = {name: sum(part.bytes for part in parts if name in part.phases) for name in names}
    return Plan(
        method=method,
        model=work.model.name,
        parameters=work.model.parameters,
        gpus=work.machine.count,
        memory=work.machine.memory,
        parts=tuple(parts),
        phases=held,
        note=_lacking(method, work),
    )


def _lacking(method: str, work: Workload) -> str:
    """What the rollouts need where several processes train; empty where the settings have it."""
    engine, count = work.config.engine, work.machine.count
    if method not in ("ppo", "grpo") or count == 1 or engine.rollout_url or engine.kind == "transformers":
        return ""
    return (
        f"{count} GPUs are {count} training processes, and vLLM cannot run inside one of them: start "
        f"`constitute serve {shlex.quote(work.model.name)} --rollouts` on another GPU and set "
        "engine.rollout_url to its URL, with which the engine takes no memory here, or set "
        "engine.kind=transformers"
    )


def _mends(method: str, work: Workload) -> Iterator[tuple[str, ...]]:
    """The smallest sets of changes that make it fit, as KEY=VALUE or `--sharded`."""
    known = _changes(method, work)
    for count in range(1, _MOST_CHANGES + 1):
        found = [
            chosen
            for chosen in combinations(known, count)
            if len({one.partition("=")[0] for one in chosen}) == count and _fits(method, work, chosen)
        ]
        if found:
            # Of changes to the same keys the first goes least far.
            mildest = {tuple(one.partition("=")[0] for one in chosen): chosen for chosen in reversed(found)}
            yield from list(reversed(mildest.values()))[:3]
            return


def _fits(method: str, work: Workload, chosen: Sequence[str]) -> bool:
    own = [each for each in chosen if each != SHARDED]
    machine = replace(work.machine, sharded=work.machine.sharded or SHARDED in chosen)
    try:
        config = _changed(work.config, own)
        if machine.shards > 1 and config.train.optimizer != "adamw":
            # Other optimizers refuse weights that are split.
            return False
        return _plan(method, replace(work, config=config, machine=machine)).fits
    except (ValueError, UsageError):
        # Settings that do not go together, or adapters on a mixture of experts.
        return False


def _changed(config: RunConfig, chosen: Sequence[str]) -> RunConfig:
    """The configuration with KEY=VALUE set; raises `ValueError` for settings that do not go together."""
    import yaml

    values = config.model_dump(mode="json")
    for each in chosen:
        key, _, value = each.partition("=")
        *outer, last = key.split(".")
        inner = values
        for name in outer:
            inner = inner[name]
        inner[last] = yaml.safe_load(value)
    return RunConfig.model_validate(values)


def _changes(method: str, work: Workload) -> list[str]:
    """What may be changed, that which costs least first."""
    config = work.config
    own: Any = getattr(config.train, method)
    at = f"train.{method}"
    found = [SHARDED] if work.machine.count > 1 and not work.machine.sharded else []
    if method in ("ppo", "grpo") and config.engine.rollout_url is None:
        held = config.engine.gpu_memory or BESIDE_A_TRAINER
        found += [f"engine.gpu_memory={share:g}" for share in (0.5, 0.3, 0.2) if share < held]
    if method == "sft":
        found += [f"{at}.device_batch_size={size}" for size in (4, 2, 1) if size < own.device_batch_size]
    else:
        found += [f"{at}.microbatch_tokens={size}" for size in (4096, 2048) if size < own.microbatch_tokens]
    if not own.gradient_checkpointing:
        found.append(f"{at}.gradient_checkpointing=true")
    if config.train.optimizer == "adamw" and work.machine.shards == 1:
        found += ["train.optimizer=adamw_8bit", "train.optimizer=adamw_offload"]
    if method == "ppo" and own.critic == "separate":
        found.append(f"{at}.critic=shared")
    if getattr(own, "lora_rank", None) == 0:
        found.append(f"{at}.lora_rank=16")
    return found
