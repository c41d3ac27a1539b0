"""What a PPO run leaves behind: the figures of each iteration, checkpoints, policies and a summary."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from constitute.config.ppo import PPOConfig
from constitute.files import append_log, atomic_folder, read_log, write_text
from constitute.progress import Progress
from constitute.stats import mean, stderr
from constitute.train.common import losses, sharding
from constitute.train.common.agreement import push_in
from constitute.train.common.artefact import write_card
from constitute.train.common.checkpoint import (
    best_checkpoint,
    last_checkpoint,
    load_checkpoint,
    save_checkpoint,
    settle,
)
from constitute.train.common.disk import checkpoint_bytes, model_bytes, most_bytes, note_disk
from constitute.train.common.metrics import FEWEST
from constitute.train.ppo.experience import Experience
from constitute.train.ppo.setup import Models
from constitute.train.ppo.state import RunState
from constitute.train.ppo.update import UpdateStats

Line = dict[str, Any]
# What writes a further file of a checkpoint, by the file's name.
Beside = Mapping[str, Callable[[Path], None]]
METRICS = "metrics.jsonl"


class History:
    """The files of one run under `out`; only the first process of several writes."""

    def __init__(self, out: Path, made_by: dict[str, Any], models: Models, config: PPOConfig) -> None:
        self.out, self.made_by, self.models, self.config = out, made_by, models, config
        self.identity = hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()[:16]

    def resume(self, state: RunState) -> tuple[list[Line], RunState, Path | None]:
        """Restore the last checkpoint; returns the metrics up to it, the state of then, and its folder.

        Later metrics go.
        """
        learner = self.models.learner
        last = last_checkpoint(self.out / "checkpoints", self.made_by)
        lines: list[Line] = []
        if last is not None:
            found = load_checkpoint(last, learner.model, learner.optimizer, self.models.scheduler)
            state = state.stored(found)
            lines = read_log(self.out / METRICS)[: found["iteration"]]
        if learner.team.main:
            write_text(self.out / METRICS, "".join(json.dumps(line) + "\n" for line in lines))
        with learner.team.phase("start"):
            learner.team.share(None)
        return lines, state, last

    def note_disk(self, progress: Progress) -> None:
        """Say what the run takes on disk: the newest and the best checkpoints, each with its policy."""
        policy = model_bytes(self.models.actor_critic.actor.model)
        number = math.ceil(self.config.iterations / self.config.checkpoint_every)
        each = checkpoint_bytes(self.models.learner.model) + policy
        each += policy * ((self.config.ema is not None) + (self.config.reference_refresh is not None))
        copies = number if self.config.keep_policies else 0
        # The best may be older than the newest ones.
        kept = self.config.keep_checkpoints + 1
        most = most_bytes(each, policy, number, kept=kept, policies=copies)
        note_disk(progress, self.config.section, self.out, most)

    def record(self, line: Line) -> None:
        """Append one line to the metrics; on disk before the checkpoint that counts on it."""
        append_log(self.out / METRICS, [json.dumps(line)])

    def checkpoint(
        self, lines: Sequence[Line], state: RunState, objective: float | None, beside: Beside
    ) -> None:
        """Save everything a later run needs to go on after `lines`, and the policy as users load it.

        The best checkpoint has the greatest `objective`; without one it is the mean of reward - kl_coef * KL
        over the iterations since the checkpoint before: single batches are noisy. `beside` writes further
        files into the checkpoint's folder. Where weights are sharded every process calls this and writes its
        parts.
        """
        learner = self.models.learner
        recent = lines[-self.config.checkpoint_every :]
        if objective is None:
            objective = mean([_objective(line) for line in recent])
        found = {**state.as_json(), "made_by": self.made_by, "objective": objective}
        iteration = len(lines)
        policy = self.whole_policy()

        def save(folder: Path) -> None:
            self._save_with_card(folder, policy, lines[-1])
            for name, write in beside.items():
                write(folder.parent / name)

        save_checkpoint(
            self.out / "checkpoints",
            iteration,
            learner.model,
            learner.optimizer,
            self.models.scheduler,
            found,
            save,
            keep=self.config.keep_checkpoints,
        )
        if self.config.keep_policies and learner.team.main:
            self._keep(iteration)

    def _keep(self, iteration: int) -> None:
        name = f"iteration-{iteration:06d}"
        kept = self.out / "policies"
        settle()
        with atomic_folder(kept / name) as folder:
            shutil.copytree(self.out / "checkpoints" / name / "policy", folder, dirs_exist_ok=True)

    def _save_with_card(self, folder: Path, policy: Any, line: Line) -> None:
        self.save_policy(policy, folder)
        figures = {name: line[name] for name in ("iteration", "reward", "kl", "length", "eos_rate")}
        write_card(folder, self.made_by, figures, self.made_by["inputs"]["policy"])

    def whole_policy(self) -> Any:
        """The policy to be saved, adapters merged; of sharded weights in the first process alone."""
        return sharding.whole_model(self.models.actor_critic.actor.model, self.models.saved)

    def save_policy(self, policy: Any, folder: Path) -> None:
        """Write the policy as a plain Hugging Face folder."""
        policy.save_pretrained(folder)
        self.models.tokenizer.save_pretrained(folder)

    def best_policy(self) -> Path | None:
        """Where the policy of the best checkpoint is."""
        found = best_checkpoint(self.out / "checkpoints")
        return None if found is None else found / "policy"


def _objective(line: Line) -> float:
    """Reward minus the penalty; a KL is measured wherever its coefficient is not 0."""
    return float(line["reward"] - line["kl_coef"] * line["kl"] if line["kl_coef"] else line["reward"])


def iteration_figures(
    iteration: int,
    learned: Experience,
    rewards: Sequence[float],
    parts: Mapping[str, Sequence[float]],
    stats: UpdateStats,
) -> Line:
    """Metrics of one iteration, all of the batch before its update.

    `kl` and `kl_k3` are nats per response (k1 and k3 estimates of the KL from the reference), `entropy` nats
    per token, `length` tokens, `reward` before the penalty for a missing end. Null is what was not measured:
    the KL without a reference, the values without a critic, a variance that is not defined. Each of several
    `parts` of the reward gives its mean as `reward/<name>` and `reward_stderr/<name>`.
    """
    batch, n = learned.batch, len(rewards)
    return {
        "iteration": iteration + 1,
        "reward": mean(rewards),
        "reward_stderr": stderr(rewards),
        "reward_std": stderr(rewards) * math.sqrt(n),
        "n": n,
        **_distance(learned),
        "kl_coef": batch.kl_coef,
        "entropy": losses.masked_mean(batch.entropy_BT, batch.mask_BT).item(),
        "length": batch.mask_BT.sum().item() / n,
        "eos_rate": sum(batch.rollouts.ended) / n,
        **_critic(learned),
        **stats.means(),
        "updates": stats.updates,
        "stopped_early": stats.stopped_early,
        **_by_part(parts),
    }


def _distance(learned: Experience) -> dict[str, float | None]:
    batch = learned.batch
    if batch.ref_logprobs_BT is None:
        return {"kl": None, "kl_k3": None}
    logs_B = ((batch.logprobs_BT - batch.ref_logprobs_BT) * batch.mask_BT).sum(dim=1)
    k3_B = (losses.k3(batch.logprobs_BT, batch.ref_logprobs_BT) * batch.mask_BT).sum(dim=1)
    return {"kl": logs_B.mean().item(), "kl_k3": k3_B.mean().item()}


def _critic(learned: Experience) -> dict[str, float | None]:
    batch = learned.batch
    if not batch.algorithm.needs_critic:
        return {"value_mean": None, "return_mean": None, "explained_variance": None}
    explained = losses.explained_variance(learned.returns_BT, batch.values_BT, batch.mask_BT).item()
    return {
        "value_mean": losses.masked_mean(batch.values_BT, batch.mask_BT).item(),
        "return_mean": losses.masked_mean(learned.returns_BT, batch.mask_BT).item(),
        "explained_variance": None if math.isnan(explained) else explained,
    }


def _by_part(parts: Mapping[str, Sequence[float]]) -> dict[str, float]:
    if len(parts) < 2:
        return {}
    means = {f"reward/{name}": mean(values) for name, values in parts.items()}
    return means | {f"reward_stderr/{name}": stderr(values) for name, values in parts.items()}


def run_summary(lines: Sequence[Line], config: PPOConfig) -> dict[str, Any]:
    """Reward of the first and of the last iterations with intervals, final KL, length and seconds by phase.

    The last tenth of the iterations (at least one) is averaged: a single batch is noisy. `reward_parts` has
    each of several parts, those that are measured only too; `reward_doubt` says why the two may not compare.
    """
    tail = lines[-max(1, len(lines) // 10) :]
    names = [name.partition("/")[2] for name in lines[0] if name.startswith("reward_stderr/")]
    parts = {
        name: {"before": _interval(lines[:1], f"/{name}"), "after": _interval(tail, f"/{name}")}
        for name in names
    }
    doubt = _doubt(lines, tail, config)
    gaps = [push.gap for push in map(push_in, lines) if push is not None]
    seconds: dict[str, float] = {}
    for line in lines:
        for phase, spent in line["seconds"].items():
            seconds[phase] = seconds.get(phase, 0.0) + spent
    return {
        "iterations": len(lines),
        "reward_before": _interval(lines[:1]),
        "reward_after": _interval(tail),
        **({"reward_doubt": doubt} if doubt else {}),
        **({"reward_parts": parts} if parts else {}),
        **{name: _mean(tail, name) for name in ("kl", "entropy", "length", "eos_rate")},
        "kl_coef": lines[-1]["kl_coef"],
        "largest_sync_gap": max((gap.mean for gap in gaps), default=None),
        "largest_sync_gap_p95": max((gap.p95 for gap in gaps), default=None),
        "largest_sync_gap_max": max((gap.max for gap in gaps), default=None),
        "seconds": {phase: round(spent, 3) for phase, spent in seconds.items()},
    }


def _doubt(lines: Sequence[Line], tail: Sequence[Line], config: PPOConfig) -> str:
    """Why the rewards before and after say little, for people; empty where they do not."""
    at, each = f"train.{config.section}", config.samples_per_prompt
    if len(lines) == 1:
        return (
            "reward_before and reward_after are of the same batch, before its update; to see the reward "
            f"change raise {at}.iterations"
        )
    sizes = [sum(line["n"] for line in part) for part in (lines[:1], tail)]
    if min(sizes) // each >= FEWEST:
        return ""
    first, last = (f"{n} answers" + (f" to {n // each} prompts" if each > 1 else "") for n in sizes)
    more = (
        "go by held_out, which is of the same prompts at both ends"
        if config.held_out
        else f"raise {at}.batch_size, or set {at}.held_out to measure the same prompts at both ends"
    )
    return (
        f"reward_before is of {first} and reward_after of {last}, which may be other prompts, and below "
        f"{FEWEST} prompts their difference may be chance; {more}"
    )


def _mean(lines: Sequence[Line], name: str) -> float | None:
    values = [line[name] for line in lines]
    return None if None in values else mean(values)


def _interval(lines: Sequence[Line], part: str = "") -> dict[str, float]:
    """Mean reward over iterations with a 95 % interval from their standard errors (normal)."""
    n = sum(line["n"] for line in lines)
    value = sum(line[f"reward{part}"] * line["n"] for line in lines) / n
    spread = math.sqrt(sum((line[f"reward_stderr{part}"] * line["n"]) ** 2 for line in lines)) / n
    return {"value": value, "n": n, "low": value - 1.96 * spread, "high": value + 1.96 * spread}
