"""Store the rollouts of a PPO run, and give them back to the learner in the place of an engine.

A replay is exact while all that shapes the policy stays as it was (start, rewards, learning rate, seed);
with another learner the stored completions are another policy's from its second iteration on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import ValidationError

from constitute.errors import DataError, EngineError, UsageError
from constitute.files import BadLine, text_lines, write_text
from constitute.types import Completion, Prompt, Record, SamplingParams

if TYPE_CHECKING:
    from constitute.train.common.rollout import Rollouts

_FOLDER, _PROMPTS = "rollouts", "prompts.jsonl"
R = TypeVar("R", bound=Record)


class StoredPrompt(Record):
    """Line of rollouts/prompts.jsonl: a prompt of the run, in the run's order, as the engine rendered it."""

    prompt: Prompt
    prompt_ids: tuple[int, ...]


class StoredRollout(Record):
    """Line of rollouts/iteration-000001.jsonl: one completion, how it was sampled and what it was worth.

    `sampling.seed` is the one of the whole batch; `ended` says that the last token is an end token;
    `rewards` holds each part of the reward, before any penalty.
    """

    iteration: int
    sampling: SamplingParams
    prompt: Prompt
    prompt_ids: tuple[int, ...]
    completion: Completion
    ended: bool
    rewards: dict[str, float]


def save_prompts(out: Path, prompts: Sequence[Prompt], prompt_ids: Sequence[Sequence[int]]) -> None:
    """Write the prompts a run draws from to `out`/rollouts. Raises `StorageError`."""
    rows = (
        StoredPrompt(prompt=prompt, prompt_ids=tuple(ids))
        for prompt, ids in zip(prompts, prompt_ids, strict=True)
    )
    _write(out / _FOLDER / _PROMPTS, rows)


def save_rollouts(
    out: Path,
    iteration: int,
    sampling: SamplingParams,
    rollouts: Rollouts,
    rewards: Mapping[str, Sequence[float]],
) -> Path:
    """Write the batch of `iteration` (from 1) to `out`/rollouts as `save_batch` does."""
    path = out / _FOLDER / f"iteration-{iteration:06d}.jsonl"
    save_batch(path, iteration, sampling, rollouts, rewards)
    return path


def save_batch(
    path: Path,
    iteration: int,
    sampling: SamplingParams,
    rollouts: Rollouts,
    rewards: Mapping[str, Sequence[float]],
) -> None:
    """Write a batch whole or not at all; a later call replaces it.

    `rewards` holds a value a rollout for each part of the reward. Raises `StorageError`.
    """
    rows = (
        StoredRollout(
            iteration=iteration,
            sampling=sampling,
            prompt=rollouts.prompts[row],
            prompt_ids=tuple(rollouts.sequences[row][: rollouts.prompt_lengths[row]]),
            completion=rollouts.completions[row],
            ended=rollouts.ended[row],
            rewards={name: values[row] for name, values in rewards.items()},
        )
        for row in range(len(rollouts.sequences))
    )
    _write(path, rows)


def read_batch(path: Path) -> list[StoredRollout]:
    """The rollouts of a batch that `save_batch` wrote. Raises `DataError` for a broken file."""
    return _read(path, StoredRollout)


def _write(path: Path, rows: Iterable[Record]) -> None:
    write_text(path, "".join(row.model_dump_json() + "\n" for row in rows))


@dataclass(frozen=True)
class ReplayEngine:
    """Implements `sync.Rollouter` with stored completions; it has no weights, so it scores nothing.

    A batch is found by the seed of its sampling, so a resumed run finds its own batches.
    """

    replays: ClassVar[bool] = True

    folder: Path
    prompts: list[Prompt]
    prompt_ids: list[list[int]]
    files: dict[int | None, Path]
    section: str

    def generate_ids(
        self, prompts: Sequence[Sequence[int]], sampling: SamplingParams, *, logprobs: bool
    ) -> list[Completion]:
        """The stored completions of the batch sampled so. Raises `DataError` where there is no such batch."""
        path = self.files.get(sampling.seed)
        if path is None:
            raise DataError(
                f"{self.folder} holds {len(self.files)} iterations and none was sampled with seed "
                f"{sampling.seed}; replay with the seed of the run that wrote it and "
                f"train.{self.section}.iterations={len(self.files)} or fewer"
            )
        stored = _read(path, StoredRollout)
        self._check(path, stored, prompts, sampling, logprobs)
        if logprobs:
            return [row.completion for row in stored]
        return [row.completion.model_copy(update={"logprobs": ()}) for row in stored]

    def _check(
        self,
        path: Path,
        stored: Sequence[StoredRollout],
        prompts: Sequence[Sequence[int]],
        sampling: SamplingParams,
        logprobs: bool,
    ) -> None:
        if len(stored) != len(prompts):
            raise DataError(
                f"{path} holds {len(stored)} rollouts and {len(prompts)} are wanted; replay with the "
                f"train.{self.section}.batch_size and samples_per_prompt of the run that wrote it"
            )
        for number, (row, ids) in enumerate(zip(stored, prompts, strict=True), 1):
            if list(row.prompt_ids) != list(ids):
                raise DataError(
                    f"{path}:{number}: prompt {row.prompt.id!r} has other token ids than the prompt "
                    "asked for; replay with the prompts, model and system text of the run that wrote it"
                )
            if row.sampling != sampling:
                raise DataError(
                    f"{path}:{number}: sampled with {_difference(row.sampling, sampling)}; replay with "
                    f"the train.{self.section}.temperature and max_new_tokens of the run that wrote it"
                )
            if logprobs and not row.completion.logprobs:
                raise DataError(
                    f"{path}:{number}: stored without log-probabilities; replay with "
                    f"train.{self.section}.old_logprobs=trainer and no train.{self.section}.importance_cap"
                )

    def score_ids(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        """Raise `EngineError`: stored rollouts have no model behind them."""
        raise EngineError(f"{self.folder} holds rollouts, not a model; it cannot score tokens")

    def update_weights(self, named_tensors: Any, *, fingerprint: str | None = None) -> None:
        """Take nothing: what is replayed is already sampled."""


def open_replay(folder: Path, section: str) -> ReplayEngine:
    """The rollouts stored in a run's OUT or its OUT/rollouts; `section` names the settings (`ppo`, `grpo`).

    Raises `UsageError` where there are none, `DataError` for a broken file.
    """
    inside = folder if (folder / _PROMPTS).is_file() else folder / _FOLDER
    batches = sorted(inside.glob("iteration-*.jsonl"))
    if not batches or not (inside / _PROMPTS).is_file():
        raise UsageError(
            f"no stored rollouts in {folder}; give the folder of a run of `train {section}` that was started "
            f"with --set train.{section}.save_rollouts=true"
        )
    files: dict[int | None, Path] = {}
    for path in batches:
        for first in islice(_records(path, StoredRollout), 1):
            files[first.sampling.seed] = path
    stored = _read(inside / _PROMPTS, StoredPrompt)
    return ReplayEngine(
        inside, [row.prompt for row in stored], [list(row.prompt_ids) for row in stored], files, section
    )


def _read(path: Path, kind: type[R]) -> list[R]:
    return list(_records(path, kind))


def _records(path: Path, kind: type[R]) -> Iterator[R]:
    for line in text_lines(path):
        if isinstance(line, BadLine):
            where, reason = line.where, line.reason
        else:
            where, text, _ = line
            try:
                yield kind.model_validate_json(text)
                continue
            except ValidationError as problem:
                reason = problem.errors()[0]["msg"]
        raise DataError(
            f"{where}: not a {kind.__name__} ({reason}); remove the folder and store the run again"
        ) from None


def _difference(stored: SamplingParams, wanted: SamplingParams) -> str:
    """`temperature=1.0, not 0.7`, for each setting that differs."""
    ours, theirs = stored.model_dump(), wanted.model_dump()
    return ", ".join(
        f"{name}={ours[name]!r}, not {theirs[name]!r}" for name in ours if ours[name] != theirs[name]
    )
