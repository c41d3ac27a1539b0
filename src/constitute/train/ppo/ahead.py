"""Sample the next batch while the learner works on this one: rollouts that are one update old.

After arXiv 2505.24298 (AReaL), with the least staleness there is: batch k + 1 is sampled with the weights
that batch k starts from. Where the engine samples in another process the two really overlap; where it does
not, they follow each other and give the same numbers.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constitute.errors import DataError
from constitute.train.common import losses, rollout
from constitute.train.common.rollout import Rollouts
from constitute.train.ppo.experience import Experience
from constitute.train.ppo.replay import read_batch, save_batch
from constitute.train.ppo.sampling import Asked, Sampler
from constitute.types import Completion

_FOLDER = "ahead"


class _Sampling:
    """Completions on their way; in a thread of its own where `apart`."""

    def __init__(self, sampler: Sampler, asked: Asked, *, apart: bool) -> None:
        self.asked, self.seconds = asked, 0.0
        self._sampler = sampler
        self._found: Sequence[Completion] | None = None
        self._problem: BaseException | None = None
        # A daemon: where the learner fails meanwhile, nothing waits for it.
        self._thread = threading.Thread(target=self._run, name="ahead", daemon=True) if apart else None
        if self._thread is None:
            self._run()
        else:
            self._thread.start()

    def _run(self) -> None:
        start = time.perf_counter()
        try:
            self._found = self._sampler.answered(self.asked)
        except BaseException as problem:
            self._problem = problem
        self.seconds = time.perf_counter() - start

    def result(self) -> Sequence[Completion] | None:
        """The completions, once they are there; raises what sampling raised."""
        if self._thread is not None:
            self._thread.join()
        if self._problem is not None:
            raise self._problem
        return self._found


@dataclass
class Ahead:
    """The batch that is sampled before its turn. Every process calls each method; one alone has an engine.

    `held` is the number of the batch at hand, from 0, and its rollouts; `seconds` is how long sampling took,
    whether anything waited for it or not.
    """

    sampler: Sampler
    out: Path
    groups: int
    held: tuple[int, Rollouts] | None = None
    seconds: float = 0.0
    _going: _Sampling | None = None

    @property
    def overlaps(self) -> bool:
        """Whether the engine samples elsewhere, so that the learner can work meanwhile."""
        return bool(getattr(self.sampler.engine, "overlaps", False))

    def begin(self, number: int) -> None:
        """Have the batch `number` sampled with the weights that the engine holds now."""
        self._going = _Sampling(self.sampler, self.sampler.ask(number, self.groups), apart=self.overlaps)
        if not self.overlaps:
            self._going.result()

    def finish(self) -> None:
        """Wait until the batch is sampled; new weights may be pushed after it."""
        going, self._going, self.seconds = self._going, None, 0.0
        if going is not None:
            found = going.result()
            self.seconds = going.seconds
            self.held = going.asked.iteration, self.sampler.gathered(going.asked, found)

    def take(self, number: int) -> Rollouts:
        """The rollouts of batch `number`: those sampled ahead, or for the first batch sampled now."""
        held, self.held = self.held, None
        if held is not None and held[0] == number:
            return held[1]
        return self.sampler.sample(number, self.groups)

    def save(self, done: int) -> None:
        """Write the batch that follows `done` iterations, before the checkpoint that counts on it."""
        if self.held is not None and self.sampler.team.main:
            settings = self.sampler.settings(done)
            save_batch(_file(self.out, done), done + 1, settings, self.held[1], {})

    def forget_all_but(self, done: int) -> None:
        """Remove the batches of earlier checkpoints, once the one after `done` iterations is written."""
        if self.sampler.team.main:
            for path in (self.out / _FOLDER).glob("iteration-*.jsonl"):
                if path != _file(self.out, done):
                    path.unlink()
            if self.held is None:
                shutil.rmtree(self.out / _FOLDER, ignore_errors=True)

    def load(self, done: int) -> None:
        """Take up the batch that was sampled before the checkpoint after `done` iterations.

        Raises `DataError` where it is gone: other rollouts would be another run.
        """
        sampler, stored = self.sampler, None
        if sampler.team.main:
            path = _file(self.out, done)
            if not path.is_file():
                raise DataError(
                    f"{path} is gone, the rollouts sampled before the checkpoint of iteration {done}; begin "
                    "the training anew in another folder, or put the file back"
                )
            rows = read_batch(path)
            stored = [(row.prompt, row.prompt_ids, row.completion) for row in rows]
        prompts, ids, completions = zip(*sampler.team.share(stored), strict=True)
        device = sampler.team.device
        self.held = done, rollout.gather(prompts, ids, completions, sampler.eos, device)


def weight_figures(learned: Experience) -> dict[str, Any]:
    """The mean importance weight of a token, and the share of tokens whose weight the cap holds down."""
    weights_BT, mask_BT, cap = learned.weights_BT, learned.batch.mask_BT, learned.batch.config.weight_cap
    if weights_BT is None or cap is None:
        return {}
    return {
        "importance_weight": losses.masked_mean(weights_BT, mask_BT).item(),
        "importance_capped": losses.masked_mean((weights_BT >= cap).float(), mask_BT).item(),
    }


def _file(out: Path, done: int) -> Path:
    """The batch of iteration `done` + 1, as iterations are numbered in files."""
    return out / _FOLDER / f"iteration-{done + 1:06d}.jsonl"
