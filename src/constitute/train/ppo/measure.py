"""What a run knows of its held-out prompts: the measurements so far, on disk and in every process."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from constitute.config.ppo import PPOConfig
from constitute.errors import UsageError
from constitute.files import append_log, read_log, write_text
from constitute.stats import mean
from constitute.train.common.team import Team
from constitute.train.ppo.held_out import (
    FILE,
    TOTAL,
    Evaluation,
    Rendered,
    Split,
    Standing,
    split_share,
    standing,
    stopped,
    summary_of,
)
from constitute.train.ppo.setup import fitting


@dataclass
class HeldOut:
    """The held-out prompts of a run and what was measured on them; no prompts where none are held out."""

    out: Path
    config: PPOConfig
    prompts: Rendered = field(default_factory=lambda: ([], []))
    found: list[Evaluation] = field(default_factory=list)

    def resume(self, done: int, team: Team) -> None:
        """Take up the measurements of the first `done` iterations; later ones go."""
        if not self.prompts[0]:
            return
        with team.phase("start"):
            rows = [Evaluation.model_validate(row) for row in read_log(self.out / FILE)] if team.main else []
            self.found = team.share([row for row in rows if row.iteration <= done])
        if team.main:
            write_text(self.out / FILE, "".join(row.model_dump_json() + "\n" for row in self.found))

    def add(self, one: Evaluation, team: Team) -> None:
        """Note a measurement; on disk before the checkpoint that counts on it. Raises `StorageError`."""
        if team.main:
            append_log(self.out / FILE, [one.model_dump_json()])
        self.found.append(one)

    @property
    def stops(self) -> bool:
        """Whether the part to stop on has fallen for long enough."""
        return bool(self.found and self.config.stop_on) and self._standing.below >= self.config.patience

    @property
    def objective(self) -> float | None:
        """What the last checkpoint is worth by the part to stop on; None where there is no such part."""
        stop_on = self.config.stop_on
        return mean(self.found[-1].values(stop_on)) if stop_on and self.found else None

    @property
    def summary(self) -> dict[str, Any]:
        """Figures for the summary of the run, and in words why it stopped, if it did."""
        if not self.found:
            return {}
        figures: dict[str, Any] = {"held_out": summary_of(self.found, self.config)}
        if self.stops:
            figures["stopped"] = stopped(self._standing, self.config, self.found[-1].iteration)
        return figures

    @property
    def _standing(self) -> Standing:
        return standing(self.found, self.config.stop_on or TOTAL)


def set_aside(
    train: Split,
    given: Rendered | None,
    config: PPOConfig,
    seed: int,
    limit: int | None,
) -> tuple[Split, Split]:
    """The prompts to train on and the held-out ones: those `given`, else the share that the settings name.

    Raises `UsageError` or `DataError` where either would be empty, and for a file's prompts if not given.
    """
    if given is not None:
        return train, fitting(*given, limit, config)
    if isinstance(config.held_out, str):
        raise UsageError(
            f"train.{config.section}.held_out names the file {config.held_out}, and its prompts are not "
            "given; give them as held_out, or set a share such as 0.1"
        )
    if not config.held_out:
        return train, ([], [])
    return split_share(*train, config.held_out, seed)


def held_out_hash(given: Rendered | None) -> dict[str, str]:
    """What a recipe says of held-out prompts that were given."""
    if given is None:
        return {}
    return {"held_out": hashlib.sha256(json.dumps([list(ids) for ids in given[1]]).encode()).hexdigest()[:16]}
