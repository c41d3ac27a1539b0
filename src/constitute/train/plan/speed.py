"""How long a training takes on a GPU, from its arithmetic and memory bandwidth: an estimate, not measured."""

from __future__ import annotations

from typing import NamedTuple

from constitute.config.ppo import PPOConfig
from constitute.errors import UsageError
from constitute.registry import nearest
from constitute.train.plan.parts import GIB, Workload
from constitute.train.ppo.algorithms import find_algorithm
from constitute.train.ppo.experience import first_pass_measures

# Of the peak that passes over long rows reach in practice, and of the bandwidth that decoding does.
_OF_PEAK, _OF_BANDWIDTH = 0.4, 0.6
# Parameters times tokens: a multiplication and an addition forward, twice that again backward.
_FORWARD, _BOTH = 2, 6
_BF16 = 2


class Gpu(NamedTuple):
    """Bytes that PyTorch sees; dense bf16 operations and bytes of memory a second, from data sheets."""

    memory: int
    flops: float = 0.0
    bandwidth: float = 0.0


GPUS = {
    "rtx4090": Gpu(int(24.0 * GIB), 165e12, 1.01e12),
    "a10": Gpu(int(22.0 * GIB), 125e12, 0.60e12),
    "l40s": Gpu(int(44.5 * GIB), 362e12, 0.86e12),
    "a100-40": Gpu(int(39.5 * GIB), 312e12, 1.56e12),
    "a100": Gpu(int(79.2 * GIB), 312e12, 2.04e12),
    "h100": Gpu(int(79.2 * GIB), 989e12, 3.35e12),
    "h200": Gpu(int(139.8 * GIB), 989e12, 4.80e12),
}


def gpu_of(given: str) -> Gpu:
    """A GPU by name or by its memory in GiB. Raises `UsageError` for neither."""
    if given.lower() in GPUS:
        return GPUS[given.lower()]
    try:
        size = float(given)
    except ValueError:
        raise UsageError(
            f"no such GPU: {given!r}; {nearest(given, GPUS)}, or give its memory in GiB, such as 24"
        ) from None
    if not 0 < size < 10_000:
        raise UsageError(f"there is no GPU of {size:g} GiB; give the memory of one, such as 24")
    return Gpu(int(size * GIB))


def seconds_of(method: str, work: Workload, gpu: Gpu) -> float | None:
    """Seconds an iteration of PPO or GRPO takes, or a million tokens of others; None unless known."""
    if not gpu.flops:
        return None
    speed = gpu.flops * _OF_PEAK * work.machine.count
    if method in ("ppo", "grpo"):
        return _iteration(work, getattr(work.config.train, method), gpu, speed)
    return 1e6 * _BOTH * work.model.parameters / speed


def _iteration(work: Workload, config: PPOConfig, gpu: Gpu, speed: float) -> float:
    model, algorithm = work.model, find_algorithm(config)
    tokens = config.batch_size * (work.prompt + config.max_new_tokens)
    forward = 0 if first_pass_measures(algorithm, config) else model.parameters
    learned = model.parameters
    if config.kl_coef:
        forward += model.parameters
    if not config.rewards:
        forward += model.trunk
    if algorithm.needs_critic and config.critic != "shared":
        forward += model.trunk
        learned += model.trunk
    passes = tokens * (_FORWARD * forward + _BOTH * learned * config.epochs) / speed
    # Each step of decoding reads all the weights once, and multiplies them with every row.
    read = config.max_new_tokens * model.parameters * _BF16 / (gpu.bandwidth * _OF_BANDWIDTH)
    return passes + read + tokens * _FORWARD * model.parameters / speed
