"""What a run keeps as it goes: numbers, copies of the policy, measurements; its checkpoints and its end."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from constitute.config.ppo import PPOConfig
from constitute.files import atomic_folder
from constitute.train.common import losses
from constitute.train.common.artefact import publish, write_card
from constitute.train.common.checkpoint import iteration_of
from constitute.train.common.team import Team
from constitute.train.ppo.copies import (
    AVERAGE,
    AVERAGE_FOLDER,
    REFERENCE,
    Average,
    load_reference,
    renew,
    save_reference,
    save_tensors,
)
from constitute.train.ppo.history import History, Line
from constitute.train.ppo.measure import HeldOut
from constitute.train.ppo.setup import Models
from constitute.train.ppo.state import RunState


@dataclass
class Keeper:
    """The state of a run beside its weights, and what of it goes to disk."""

    models: Models
    history: History
    held: HeldOut
    config: PPOConfig
    state: RunState

    @property
    def team(self) -> Team:
        """The processes that train together."""
        return self.models.learner.team

    @cached_property
    def average(self) -> Average | None:
        """The average of the policies, where it is kept."""
        return None if self.config.ema is None else Average(self.config.ema, self.team)

    def resume(self) -> list[Line]:
        """Load the last checkpoint; returns the metrics up to it."""
        lines, self.state, last = self.history.resume(self.state)
        self.held.resume(len(lines), self.team)
        if self.average is not None:
            if last is None:
                self.average.follow(self.models.actor_critic.actor.model)
            else:
                self.average.load(last / AVERAGE)
        if last is not None and self.state.reference_from and self.models.frozen is not None:
            load_reference(last / REFERENCE, self.models.frozen)
        return lines

    def scored(self, rewards: Sequence[float]) -> None:
        """Take the rewards of a batch into the moments of all so far."""
        self.state = replace(self.state, moments=self.state.moments.with_values(rewards))

    def adapt(self, kl: float | None, episodes: int, iteration: int) -> None:
        """Move the KL coefficient towards its target; not while the policy stands still."""
        config = self.config
        if config.kl_target is None or kl is None or iteration < config.value_warmup:
            return
        found = losses.adaptive_kl(self.state.kl_coef, kl, config.kl_target, episodes, config.kl_horizon)
        self.state = replace(self.state, kl_coef=found)

    def follow(self, iteration: int) -> Line:
        """Take the policy after `iteration` iterations into its average, and into a reference to be renewed.

        Returns the metric that says which policy the KL of the iteration was measured from.
        """
        every, policy = self.config.reference_refresh, self.models.actor_critic.actor
        if self.average is not None:
            self.average.follow(policy.model)
        if every is None:
            return {}
        line = {"kl_from": self.state.reference_from}
        if iteration % every == 0 and self.models.frozen is not None:
            renew(self.models.frozen, policy)
            self.state = replace(self.state, reference_from=iteration)
        return line

    def checkpoint(self, lines: Sequence[Line]) -> None:
        """Save the state; the others wait, so that none runs ahead of what is on disk."""
        with self.team.phase("checkpoint"):
            if self.team.saves:
                self.history.checkpoint(lines, self.state, self.held.objective, self._beside())
            self.team.share(None)

    def _beside(self) -> dict[str, Callable[[Path], None]]:
        """What a checkpoint holds beyond what every checkpoint holds."""
        found: dict[str, Callable[[Path], None]] = {}
        if self.average is not None:
            found[AVERAGE] = partial(save_tensors, tensors=self.average.weights)
        if self.state.reference_from and self.models.frozen is not None:
            found[REFERENCE] = partial(save_reference, reference=self.models.frozen)
        return found

    def publish(self, summary: dict[str, Any], base: str) -> dict[str, Any]:
        """Write the trained model, and the average beside it; returns the summary.

        It is the last policy, or the best by the part of the reward that the run may stop on.
        """
        history, out = self.history, self.history.out
        best = history.best_policy()
        if best is not None:
            summary["best_policy"] = str(best.relative_to(out))
        with self.team.phase("save"):
            last = history.whole_policy() if self.team.saves else None
        if not self.team.main:
            return summary
        if self.average is not None:
            summary["ema"] = AVERAGE_FOLDER
            with atomic_folder(out / AVERAGE_FOLDER) as folder:
                self.average.save(folder, last, self.models.tokenizer)
                write_card(folder, history.made_by, summary, base)
        save: Callable[[Path], Any] = partial(history.save_policy, last)
        if self.config.stop_on and best is not None:
            summary["saved_policy"] = "best"
            summary["saved_iteration"] = iteration_of(best.parent)
            save = partial(shutil.copytree, best, dirs_exist_ok=True)
        publish(out, save, made_by=history.made_by, summary=summary, base=base)
        return summary
