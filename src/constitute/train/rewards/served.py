"""Reward answers that other programs send: whatever a policy can be rewarded by, row by row."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from constitute.config import RunConfig
from constitute.engines.render import Renderer, RenderSettings
from constitute.engines.tokenizer import load_tokenizer, turn_ends
from constitute.errors import DataError, UsageError
from constitute.pipeline.session import dated
from constitute.progress import Progress
from constitute.train.common import _compat
from constitute.train.common.batching import Batching
from constitute.train.common.from_run import policy_of
from constitute.train.reward.model import RewardModel, open_reward_model
from constitute.train.rewards.parts import RewardFunction, RewardPart
from constitute.train.rewards.sources import GivenRewards, open_rewards
from constitute.train.rewards.trust import check_rewards
from constitute.train.rewards.welfare import Welfare, check_welfare, total_reward
from constitute.train.rewards.wire import Asked
from constitute.types import Completion, Prompt


@dataclass(frozen=True)
class Rewarded:
    """The reward of one answer and its parts by name, before they are weighted."""

    reward: float
    parts: dict[str, float]


# Rewards of rows, or why a row has none, one a row.
Rewarding = Callable[[Sequence[Asked]], list[Rewarded | str]]
# One value a row, or why there is none.
_Values = list[float | str]


@contextmanager
def open_served(
    config: RunConfig, given: GivenRewards, policy: str | None, progress: Progress, *, force: bool
) -> Iterator[tuple[tuple[str, ...], Rewarding]]:
    """Yield the names of the reward's parts and the function that rewards rows; closed at the end.

    `policy` is the folder of the model that answers; it tells a judge and functions an answer's words from
    the marks of its chat template, and may be None where clients send messages. Raises `UsageError` for a
    source that cannot be opened and `GateFailed` as `check_rewards` does.
    """
    _compat.quiet()
    config = dated(config)
    reader = None if policy is None else _Reader.of(policy, config)
    method = _method(config)
    welfare = Welfare.of(config.train.grpo if method == "grpo" else config.train.ppo, method)
    with open_rewards(config, given) as parts:
        check_rewards(parts, progress, force=force)
        check_welfare(welfare, parts)
        with progress.waiting("loading what rewards"):
            scorers = [_scorer(part, config, reader) for part in parts]

        def rewards(rows: Sequence[Asked]) -> list[Rewarded | str]:
            values = {part.name: scorer(rows) for part, scorer in zip(parts, scorers, strict=True)}
            return [
                _of_row({name: column[row] for name, column in values.items()}) for row in range(len(rows))
            ]

        def _of_row(found: dict[str, float | str]) -> Rewarded | str:
            numbers = {name: value for name, value in found.items() if isinstance(value, float)}
            if len(numbers) < len(found):
                return next(value for value in found.values() if isinstance(value, str))
            try:
                return Rewarded(total_reward(parts, numbers, welfare, "the answer"), numbers)
            except DataError as problem:
                return str(problem)

        yield tuple(part.name for part in parts), rewards


def served_rewards(config: RunConfig) -> GivenRewards:
    """What the run's first method of reinforcement learning maximises; empty for the run's reward model."""
    return config.train.grpo.rewards if _method(config) == "grpo" else config.train.ppo.rewards


def _method(config: RunConfig) -> str:
    return next((name for name in config.train.method if name in ("ppo", "grpo")), "ppo")


def served_policy(config: RunConfig, given: str | None) -> str | None:
    """The folder of the model whose answers come in, None where there is none to be had."""
    try:
        return policy_of(config, given)
    except UsageError:
        if given is not None:
            raise
        return None


@dataclass(frozen=True)
class _Reader:
    """Reads texts of one model: its tokenizer, how it renders, what ends a turn."""

    tokenizer: Any
    renderer: Renderer
    ends: frozenset[int]

    @classmethod
    def of(cls, path: str, config: RunConfig) -> _Reader:
        tokenizer = load_tokenizer(path)
        ends = turn_ends(path, tokenizer)
        return cls(tokenizer, Renderer(tokenizer, path, ends, RenderSettings.of(config.engine)), ends)

    def encode(self, text: str) -> list[int]:
        """The ids of a text in which the chat template's marks are marks."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def whole(self, row: Asked) -> list[int]:
        """The ids of a whole conversation. Raises `DataError` where the template refuses it."""
        if row.query is not None:
            return self.encode(row.query)
        assert row.prompt is not None and row.answer is not None
        turns = row.prompt.messages
        return self.renderer.prompt_ids(turns) + self.renderer.answer_ids(turns, row.answer)

    def completion(self, tail: str) -> Completion:
        """An answer read from what follows a prompt in a rendered text."""
        ids = self.encode(tail)
        ended = bool(ids) and ids[-1] in self.ends | self.renderer.eos_ids
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        return Completion(text=text, token_ids=tuple(ids), finish_reason="stop" if ended else "length")


def _scorer(
    part: RewardPart, config: RunConfig, reader: _Reader | None
) -> Callable[[Sequence[Asked]], _Values]:
    if isinstance(part.source, str):
        return _of_model(part.source, config)
    call = part.source
    return lambda rows: _of_function(call, rows, reader)


def _of_model(path: str, config: RunConfig) -> Callable[[Sequence[Asked]], _Values]:
    reader = _Reader.of(path, config)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
    model = open_reward_model(path, reader.tokenizer, path, torch.bfloat16 if bf16 else torch.float32, device)
    limit = getattr(model.model.config.get_text_config(), "max_position_embeddings", None)
    batching = Batching(reader.tokenizer.pad_token_id or 0, config.train.reward.microbatch_tokens)

    def values(rows: Sequence[Asked]) -> _Values:
        sequences = [_sequence(row, reader, limit) for row in rows]
        return _filled(sequences, _model_scores(model, sequences, batching))

    return values


def _sequence(row: Asked, reader: _Reader, limit: int | None) -> list[int] | str:
    try:
        ids = reader.whole(row)
    except DataError as problem:
        return str(problem)
    if not ids:
        return "the conversation is empty"
    if limit is not None and len(ids) > limit:
        return f"the conversation has {len(ids)} tokens and the reward model reads at most {limit}"
    return ids


def _model_scores(
    model: RewardModel, found: Sequence[list[int] | str], batching: Batching
) -> list[float | str]:
    ready = [each for each in found if not isinstance(each, str)]
    scores = model.scores(ready, batching) if ready else []
    return [score if math.isfinite(score) else f"the reward model gives {score}" for score in scores]


def _filled(found: Sequence[Any], values: Sequence[float | str]) -> _Values:
    """`values` in the places of `found` that hold no reason."""
    left = iter(values)
    return [each if isinstance(each, str) else next(left) for each in found]


def _of_function(call: RewardFunction, rows: Sequence[Asked], reader: _Reader | None) -> _Values:
    found = [_texts(row, reader) for row in rows]
    return _filled(found, _each(call, [each for each in found if not isinstance(each, str)]))


def _texts(row: Asked, reader: _Reader | None) -> tuple[Prompt, Completion] | str:
    if row.prompt is None:
        return (
            "a judge or function needs the prompt's messages: send `messages`, or labels as "
            "`constitute handoff` writes them"
        )
    if row.answer is not None:
        return row.prompt, Completion(text=row.answer)
    if row.tail is None:
        return "`query` does not begin with its prompt, so the answer in it cannot be told"
    if reader is None:
        return "the answer's marks cannot be told from its words; start serve-reward with --model POLICY"
    return row.prompt, reader.completion(row.tail)


def _each(call: RewardFunction, rows: Sequence[tuple[Prompt, Completion]]) -> _Values:
    """A value a row, or the reason of a row without one, found by asking for half of the rows again."""
    if not rows:
        return []
    try:
        return [float(value) for value in call([row[0] for row in rows], [row[1] for row in rows])]
    except DataError as problem:
        if len(rows) == 1:
            return [str(problem)]
    half = len(rows) // 2
    return _each(call, rows[:half]) + _each(call, rows[half:])
