"""What each trainer holds in memory, part by part, and in which of its phases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from constitute.config import RunConfig
from constitute.config.ppo import PPOConfig
from constitute.engines.swap import BESIDE_A_TRAINER
from constitute.train.plan.shapes import Pass, Passed, Shape
from constitute.train.ppo.algorithms import find_algorithm
from constitute.types import Record

_FLOAT = 4
# Bytes of both moments of a weight: 8 bits each with a scale for 256 of them, none on the GPU.
_MOMENTS = {"adamw": 8.0, "adamw_8bit": 2 + 8 / 256, "adamw_offload": 0.0}
GIB = 1 << 30


class Part(Record):
    """Bytes on one GPU that a trainer holds in `phases`."""

    name: str
    bytes: int
    phases: tuple[str, ...]


@dataclass(frozen=True)
class Machine:
    """`count` GPUs of `memory` bytes each; with `sharded` the weights are split over them (FSDP2)."""

    memory: int
    count: int = 1
    sharded: bool = False

    @property
    def shards(self) -> int:
        """Parts that trained and frozen weights are split into."""
        return self.count if self.sharded else 1


@dataclass(frozen=True)
class Workload:
    """What a plan is made for. `half` is bf16 autocast, as on every GPU that has it."""

    config: RunConfig
    model: Shape
    machine: Machine
    prompt: int
    half: bool = True

    @property
    def frozen(self) -> int:
        """Bytes of a weight that is not trained, or that is gathered for a pass."""
        return 2 if self.half else _FLOAT

    def passed(self, rows: int, prompt: int, response: int, rank: int, *, head: bool, again: bool) -> Passed:
        """What a pass of a trainer takes; `again` is gradient checkpointing, `rank` that of the adapters."""
        held = self.half and (rank > 0 or self.machine.shards > 1)
        return self.model.passed(
            Pass(rows, prompt, response, self.half, head, rank, held), checkpointed=again
        )


def sft_parts(work: Workload) -> list[Part]:
    """TRL's SFTTrainer: rows of `max_length` tokens, `device_batch_size` at once."""
    config = work.config.train.sft
    rows, length = config.device_batch_size, config.max_length
    passed = work.passed(
        rows, 1, length - 1, config.lora_rank, head=False, again=config.gradient_checkpointing
    )
    # TRL takes the logits of the whole sequence at once, in the forward and in the backward.
    logits = 3 * rows * length * work.model.vocabulary * _FLOAT
    return [
        *_trained(work, "model", work.model.parameters, config.lora_rank, ("update",)),
        Part(name="activations", bytes=passed.kept, phases=("update",)),
        Part(name="logits", bytes=logits, phases=("update",)),
    ]


def reward_parts(work: Workload) -> list[Part]:
    """The reward model: both sides of a pair in one pass over the trunk."""
    config = work.config.train.reward
    rows, length = _rows(config.microbatch_tokens, config.max_length)
    passed = work.passed(
        rows, 1, length - 1, config.lora_rank, head=False, again=config.gradient_checkpointing
    )
    return [
        *_trained(work, "model", work.model.trunk, config.lora_rank, ("update",)),
        Part(name="activations", bytes=passed.kept, phases=("update",)),
    ]


def dpo_parts(work: Workload) -> list[Part]:
    """DPO: the policy alone; the reference's log-probabilities are taken before the first update."""
    config = work.config.train.dpo
    rows, length = _rows(config.microbatch_tokens, config.max_length)
    prompt = min(work.prompt, length - 1)
    passed = work.passed(
        rows, prompt, length - prompt, config.lora_rank, head=True, again=config.gradient_checkpointing
    )
    return [
        *_trained(work, "policy", work.model.parameters, config.lora_rank, ("update",)),
        *_activations(passed, "policy", ("update",)),
    ]


def ppo_parts(work: Workload) -> list[Part]:
    """PPO: what learns, what is frozen, the engine, and the copy that a push of weights makes."""
    return _by_reward(work, work.config.train.ppo)


def grpo_parts(work: Workload) -> list[Part]:
    """GRPO: as PPO, without a critic."""
    return _by_reward(work, work.config.train.grpo)


PLANNED: dict[str, Callable[[Workload], list[Part]]] = {
    "sft": sft_parts,
    "reward": reward_parts,
    "dpo": dpo_parts,
    "ppo": ppo_parts,
    "grpo": grpo_parts,
}
ALWAYS = ("rollouts", "score", "update", "push")


def _by_reward(work: Workload, config: PPOConfig) -> list[Part]:
    model, length = work.model, work.prompt + config.max_new_tokens
    rows, _ = _rows(config.microbatch_tokens, length)
    tokens = (rows, work.prompt, config.max_new_tokens)
    policy = work.passed(*tokens, config.lora_rank, head=True, again=config.gradient_checkpointing)
    parts = [
        *_trained(work, "policy", model.parameters, config.lora_rank, ALWAYS),
        *_activations(policy, "policy", ("update",)),
    ]
    if find_algorithm(config).needs_critic:
        parts += _critic(work, config, rows)
    if config.kl_coef and not config.lora_rank:
        parts.append(_frozen(work, "reference", model.parameters))
    if not config.rewards:
        parts.append(_frozen(work, "reward model", model.trunk))
    if work.config.engine.rollout_url is None:
        share = int((work.config.engine.gpu_memory or BESIDE_A_TRAINER) * work.machine.memory)
        # On a GPU it sleeps while the learner works (`engine.sleep`).
        asleep = work.half and work.config.engine.sleep is not False
        awake = tuple(phase for phase in ALWAYS if not (asleep and phase == "update"))
        parts.append(Part(name="engine (vLLM)", bytes=share, phases=awake))
        # Weights go over one tensor at a time, and the engine keeps those of a layer until it is whole.
        copied = max(model.largest_layer, model.parameters - model.trunk, model.embedding) * work.frozen
        parts.append(Part(name="copies of weights", bytes=copied, phases=("push",)))
    return parts


def _critic(work: Workload, config: PPOConfig, rows: int) -> list[Part]:
    if config.critic == "shared":
        return []
    tokens = (rows, work.prompt, config.max_new_tokens)
    kept = work.passed(*tokens, config.lora_rank, head=False, again=config.gradient_checkpointing).kept
    seen = Part(name="critic's activations", bytes=kept, phases=("update",))
    if config.critic == "lora":
        return [*_weights(work, "critic's adapters", work.model.linear * config.lora_rank, ALWAYS), seen]
    return [*_trained(work, "critic", work.model.trunk, config.lora_rank, ALWAYS), seen]


def _trained(work: Workload, name: str, parameters: int, rank: int, phases: Sequence[str]) -> list[Part]:
    """Weights in fp32 with gradients and Adam; with LoRA of `rank` the adapters alone, on a frozen base."""
    if not rank:
        return _weights(work, name, parameters, phases)
    base = Part(name=f"{name}'s weights", bytes=_share(work, parameters * work.frozen), phases=tuple(phases))
    return [base, *_weights(work, f"{name}'s adapters", work.model.linear * rank, phases)]


def _weights(work: Workload, name: str, parameters: int, phases: Sequence[str]) -> list[Part]:
    own = name if name.endswith("adapters") else f"{name}'s weights"
    gathered = work.model.largest_layer * work.frozen * 2 if work.machine.shards > 1 else 0
    moments = int(parameters * _MOMENTS[work.config.train.optimizer])
    return [
        Part(name=own, bytes=_share(work, parameters * _FLOAT) + gathered, phases=tuple(phases)),
        Part(name=f"{name}'s gradients", bytes=_share(work, parameters * _FLOAT), phases=("update",)),
        Part(name=f"{name}'s Adam", bytes=_share(work, moments), phases=tuple(phases)),
    ]


def _frozen(work: Workload, name: str, parameters: int) -> Part:
    return Part(name=name, bytes=_share(work, parameters * work.frozen), phases=ALWAYS)


def _activations(passed: Passed, name: str, phases: Sequence[str]) -> list[Part]:
    return [
        Part(name=f"{name}'s activations", bytes=passed.kept, phases=tuple(phases)),
        Part(name="logits", bytes=passed.logits, phases=tuple(phases)),
    ]


def _share(work: Workload, size: int) -> int:
    return -(-size // work.machine.shards)


def _rows(tokens: int, length: int) -> tuple[int, int]:
    """Sequences of `length` in a pass of `tokens`; a longer one has a pass of its own."""
    return max(1, tokens // length), length
