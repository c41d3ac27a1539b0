"""What a PPO run leaves on disk as it goes: metrics, checkpoints and policies."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from constitute.config.ppo import PPOConfig
from constitute.stats import mean
from constitute.train.common import sharding
from constitute.train.common.artefact import write_card
from constitute.train.common.checkpoint import (
    best_checkpoint,
    last_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from constitute.train.ppo.setup import Players

Line = dict[str, Any]
METRICS = "metrics.jsonl"


class History:
    """The files of one run under `out`; only the first process of several writes."""

    def __init__(self, out: Path, made_by: dict[str, Any], players: Players, config: PPOConfig) -> None:
        self.out, self.made_by, self.players, self.config = out, made_by, players, config
        self.identity = hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()[:16]

    def resume(self, kl_coef: float) -> tuple[list[Line], float]:
        """Restore the last checkpoint; returns the metrics up to it and the KL coefficient. Later ones go."""
        learner = self.players.learner
        last = last_checkpoint(self.out / "checkpoints", self.made_by)
        lines: list[Line] = []
        if last is not None:
            state = load_checkpoint(last, learner.model, learner.optimizer, self.players.scheduler)
            kl_coef = float(state["kl_coef"])
            stored = (self.out / METRICS).read_text(encoding="utf-8").splitlines()
            lines = [json.loads(text) for text in stored[: state["iteration"]]]
        if learner.team.main:
            self._rewrite(lines)
        with learner.team.phase("start"):
            learner.team.share(None)
        return lines, kl_coef

    def _rewrite(self, lines: Sequence[Line]) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        new = self.out / f".{METRICS}.new"
        new.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        os.replace(new, self.out / METRICS)

    def record(self, line: Line) -> None:
        """Append one line to the metrics; on disk before the checkpoint that counts on it."""
        with (self.out / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def checkpoint(self, lines: Sequence[Line], kl_coef: float) -> None:
        """Save everything a later run needs to go on after `lines`, and the policy as users load it.

        The objective of a checkpoint is the mean of reward - kl_coef * KL over the iterations since the
        one before: single batches are noisy. Where weights are sharded every process calls it, and only the
        first writes.
        """
        learner = self.players.learner
        recent = lines[-self.config.checkpoint_every :]
        state = {
            "kl_coef": kl_coef,
            "made_by": self.made_by,
            "objective": mean([line["reward"] - line["kl_coef"] * line["kl"] for line in recent]),
        }
        iteration = len(lines)
        policy = self.whole_policy()
        save_checkpoint(
            self.out / "checkpoints",
            iteration,
            learner.model,
            learner.optimizer,
            self.players.scheduler,
            state,
            lambda folder: self._save_with_card(folder, policy, lines[-1]),
        )
        if self.config.keep_policies and learner.team.main:
            self._keep(iteration)

    def _keep(self, iteration: int) -> None:
        name = f"iteration-{iteration:06d}"
        kept = self.out / "policies"
        staging = kept / f".{name}"
        shutil.rmtree(staging, ignore_errors=True)
        shutil.copytree(self.out / "checkpoints" / name / "policy", staging)
        shutil.rmtree(kept / name, ignore_errors=True)
        os.replace(staging, kept / name)

    def _save_with_card(self, folder: Path, policy: Any, line: Line) -> None:
        self.save_policy(policy, folder)
        figures = {name: line[name] for name in ("iteration", "reward", "kl", "length", "eos_rate")}
        write_card(folder, self.made_by, figures, self.made_by["inputs"]["policy"])

    def whole_policy(self) -> Any:
        """The policy to be saved, adapters merged; of sharded weights in the first process alone."""
        return sharding.whole_model(self.players.actor_critic.actor.model)

    def save_policy(self, policy: Any, folder: Path) -> None:
        """Write the policy as a plain Hugging Face folder."""
        policy.save_pretrained(folder)
        self.players.tokenizer.save_pretrained(folder)

    def best(self) -> dict[str, Any]:
        """Where the policy of the best checkpoint is."""
        found = best_checkpoint(self.out / "checkpoints")
        return {} if found is None else {"best_policy": str((found / "policy").relative_to(self.out))}
