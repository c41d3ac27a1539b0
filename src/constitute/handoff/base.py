"""What a hand-over is made of: the job, settings in another trainer's words, and those that have none."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from constitute.config import RunConfig
from constitute.config.ppo import PPOConfig
from constitute.types import Prompt

# Settings that change memory, files or what is watched, and not what is learned; or that are written
# elsewhere in a hand-over (`rewards`).
NOT_LEARNED = frozenset(
    {
        "microbatch_tokens",
        "graph_tokens",
        "share_prompts",
        "held_out_every",
        "patience",
        "sync_gap_limit",
        "report_to",
        "samples_kept",
        "save_rollouts",
        "keep_policies",
        "keep_checkpoints",
        "rewards",
    }
)
# Settings of algorithms that are not handed over, and the welfare that `serve-reward` computes.
NOT_LEARNED |= {"pair_labels", "divergence", "welfare", "aversion", "utility"}
# Values by which a setting does nothing.
_OFF: tuple[Any, ...] = (None, False, 0, (), [], {}, "", "none", "auto")
# What each of them does where it has no such setting.
_AS_THEY_DO = {"epochs": 1, "gamma": 1.0, "ratio": "token", "old_logprobs": "trainer"}
_OF_A_CRITIC = frozenset(
    {"critic", "critic_learning_rate", "value_clip", "value_coef", "value_warmup", "lam"}
)


@dataclass(frozen=True)
class Cluster:
    """What is trained on: nodes with so many GPUs each."""

    nodes: int = 1
    gpus: int = 8

    @property
    def total(self) -> int:
        """GPUs of all nodes."""
        return self.nodes * self.gpus


def settings_of(config: RunConfig, method: str) -> PPOConfig:
    """The settings of the method."""
    return config.train.grpo if method == "grpo" else config.train.ppo


@dataclass(frozen=True)
class Job:
    """A training to hand over, with everything that a launch file says.

    `policy` is what training starts from and `critic` what the value function does. `reward_model` is a
    reward model that is the whole reward, where it is one; `reward_url` is where `serve-reward` answers.
    `prompt_tokens` is the length of the longest prompt in tokens. Paths are absolute.
    """

    config: RunConfig
    method: Literal["ppo", "grpo"]
    policy: str
    critic: str
    reward_model: str | None
    reward_url: str
    prompts: int
    prompt_tokens: int
    cluster: Cluster
    folder: Path

    @property
    def settings(self) -> PPOConfig:
        """The settings of the method."""
        return settings_of(self.config, self.method)

    def word(self, name: str) -> str:
        """The path of a file in the folder, as a shell takes it."""
        return shlex.quote(str(self.folder / name))

    @property
    def prompts_a_batch(self) -> int:
        """Prompts of one iteration; each is answered `samples_per_prompt` times."""
        return self.settings.batch_size // self.settings.samples_per_prompt

    @property
    def prompts_a_minibatch(self) -> int:
        """Prompts of one update, at least one."""
        return max(1, self.prompts_a_batch // self.settings.minibatches)

    @property
    def length(self) -> int:
        """Tokens of the longest prompt with a whole response."""
        return self.prompt_tokens + self.settings.max_new_tokens

    @property
    def passes(self) -> int:
        """Passes over all prompts that hold as many batches as there are iterations."""
        return max(1, math.ceil(self.settings.iterations / max(1, self.prompts // self.prompts_a_batch)))

    @property
    def kl_in_loss(self) -> bool:
        """Whether the KL penalty stands in the loss, as the setting says or else the algorithm."""
        if self.settings.kl_in != "auto":
            return self.settings.kl_in == "loss"
        return self.settings.advantage in ("grpo", "reinforce++baseline")


@dataclass(frozen=True)
class Mapped:
    """One key of another trainer and its value; `ours` are the settings that it comes from.

    `note` says where the two do not mean quite the same.
    """

    key: str
    value: Any
    ours: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Target:
    """A trainer to hand over to: which one, how settings are called there, and what files it wants.

    `commit` is the state of `repository` that keys and shapes were read from. `lacks` says in words why a
    setting has no counterpart. `write` writes data, reward and launch files and returns them, `how` says
    what to do with them, a line each.
    """

    title: str
    repository: str
    commit: str
    export_format: str
    settings: Callable[[Job], list[Mapped]]
    write: Callable[[Job, Sequence[Prompt], Sequence[Mapped]], list[Path]]
    lacks: Mapping[str, str]
    how: Callable[[Job], list[str]]


def unheeded(job: Job) -> set[str]:
    """Settings that change nothing under the others, whatever their values."""
    cfg = job.settings
    found: set[str] = set()
    for names, heeded in (
        (_OF_A_CRITIC, cfg.advantage == "gae"),
        ({"gamma"}, cfg.advantage in ("gae", "reinforce++")),
        ({"group_std"}, cfg.advantage == "grpo"),
        ({"kl_in", "kl_target", "kl_horizon"}, cfg.kl_coef > 0),
        ({"kl_horizon"}, cfg.kl_target is not None),
        ({"kl_estimate"}, cfg.kl_coef > 0 and job.kl_in_loss),
        ({"target_kl"}, cfg.epochs * cfg.minibatches > 1),
        ({"ptx_data"}, cfg.ptx_coef > 0),
    ):
        found |= set() if heeded else set(names)
    return found


def lost(target: Target, job: Job, mapped: Sequence[Mapped]) -> Iterator[str]:
    """A sentence for each setting that would change what is learned and that the target does not have."""
    taken = {name for each in mapped for name in each.ours} | NOT_LEARNED | unheeded(job)
    for name, value in _flat(job.settings.model_dump()):
        known = name.partition(".")[0] in taken or name in taken
        if known or any(value is off or value == off for off in _OFF) or _AS_THEY_DO.get(name) == value:
            continue
        why = target.lacks.get(name, f"{target.title} has no such setting")
        yield f"train.{job.settings.section}.{name}={value}: {why}."


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def number(value: float) -> str:
    """A number as argparse takes it, which reads `-1e-05` as an option: no exponent."""
    text = f"{value:.12f}".rstrip("0")
    return f"{text}0" if text.endswith(".") else text
