"""Rewards of given answers: by whatever a policy can be rewarded by, or by the implicit reward of a policy.

Nothing is trained or sampled here; `constitute evals reward` asks this of preference files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from constitute.config import RunConfig
from constitute.engines.render import Renderer, RenderSettings
from constitute.engines.tokenizer import load_tokenizer, turn_ends
from constitute.errors import DataError, UsageError
from constitute.packaged import model_path
from constitute.pipeline.session import dated
from constitute.progress import Progress
from constitute.train.common import _compat
from constitute.train.common.actor import sequence_logprobs
from constitute.train.common.artefact import model_identity
from constitute.train.common.batching import Batching
from constitute.train.common.models import Actor, check_actor, load_model
from constitute.train.common.precision import held_dtype
from constitute.train.reward.model import RewardModel, raw_scores
from constitute.train.rewards.judge import judge_ratings, open_judge
from constitute.train.rewards.parts import RewardFunction
from constitute.train.rewards.sources import open_rewards
from constitute.types import AnswerReward, Completion, Prompt

# Rewards of answers, each to its prompt, one an answer.
Rewards = Callable[[Sequence[Prompt], Sequence[str]], list[AnswerReward]]


@dataclass(frozen=True)
class AnswerScorer:
    """What rewards answers: its name, the identity of its model as results hold it, and the function."""

    name: str
    model: dict[str, Any]
    rewards: Rewards


@dataclass(frozen=True)
class _Tokens:
    """An answer in tokens: where it starts after its prompt, and whether anything before was cut off."""

    ids: list[int]
    start: int
    truncated: bool


@contextmanager
def open_answers(
    config: RunConfig,
    source: str,
    *,
    reference: str | None = None,
    max_length: int | None = None,
    progress: Progress,
) -> Iterator[AnswerScorer]:
    """What rewards answers as `source` says, a source of `rewards.sources`; closed at the end.

    With a `reference`, `source` is a policy, and an answer's reward is beta (log pi - log ref) in nats (arXiv
    2305.18290, equation 5) with beta of `train.dpo`. Conversations longer than `max_length` tokens, by
    default the model's context, lose their beginning. Raises `UsageError` for what cannot be opened.
    """
    config = dated(config)
    _compat.quiet()
    if reference is not None:
        with progress.waiting(f"loading {source} and {reference}"):
            scorer = _implicit(config, model_path(source), model_path(reference), max_length)
        yield scorer
        return
    if source == "judge":
        _refuse_length(source, max_length)
        with _rating_judge(config) as scorer:
            yield scorer
        return
    with open_rewards(config, source) as (part,):
        if isinstance(part.source, str):
            with progress.waiting(f"loading {part.source}"):
                rewards = _of_model(config, part.source, max_length)
        else:
            _refuse_length(source, max_length)
            rewards = _of_function(part.source)
        yield AnswerScorer(source, {"name": source, "fingerprint": part.identity}, rewards)


def _refuse_length(source: str, max_length: int | None) -> None:
    if max_length is not None:
        raise UsageError(
            f"--max-length counts tokens of a model, and {source} gets texts; leave it out, or name a reward "
            "model's folder"
        )


def _of_model(config: RunConfig, path: str, max_length: int | None) -> Rewards:
    """A reward model's score at the end of the answer's turn: its log-odds, as it was trained.

    Several heads, or a head and its error, give one score as the model is configured to combine them, in
    units of its deviation.
    """
    from transformers import AutoModelForSequenceClassification

    device, dtype = _device()
    try:
        model = load_model(AutoModelForSequenceClassification, path, dtype=dtype)
    except UsageError as problem:
        raise UsageError(
            f"{problem}; a language model is no reward model: give --reference MODEL to score answers by its "
            "implicit reward against the model that it was trained from"
        ) from problem
    scorer = RewardModel(model, path, device)
    tokens, pad_id = _renders(config, path, _context(model, max_length))
    batching = Batching(pad_id, config.train.reward.microbatch_tokens)

    def rewards(prompts: Sequence[Prompt], answers: Sequence[str]) -> list[AnswerReward]:
        def scores(ready: Sequence[_Tokens]) -> list[float]:
            sequences = [each.ids for each in ready]
            if scorer.normal.means[1:] or scorer.uncertainty is not None:
                return scorer.scores(sequences, batching)
            return [float(score) for score in raw_scores(model, scorer.head, sequences, batching)[:, 0]]

        return _rewarded(prompts, answers, tokens, scores)

    return rewards


def _implicit(config: RunConfig, policy: str, reference: str, max_length: int | None) -> AnswerScorer:
    from transformers import AutoModelForCausalLM

    if load_tokenizer(policy).get_vocab() != load_tokenizer(reference).get_vocab():
        raise UsageError(
            f"the reference {reference} has another tokenizer than {policy}; name the model that it was "
            "trained from"
        )
    device, dtype = _device()
    actors = []
    for path in (policy, reference):
        network = load_model(AutoModelForCausalLM, path, dtype=dtype).requires_grad_(False).to(device)
        actors.append(Actor(network))
        check_actor(actors[-1], path)
    limit = min(filter(None, (_context(actor.model, max_length) for actor in actors)), default=None)
    tokens, pad_id = _renders(config, policy, limit)
    batching = Batching(pad_id, config.train.dpo.microbatch_tokens)

    def scores(ready: Sequence[_Tokens]) -> list[float]:
        ids, starts = [each.ids for each in ready], [each.start for each in ready]
        with torch.no_grad():
            ours, theirs = (sequence_logprobs(actor, ids, starts, batching) for actor in actors)
        return [float(value) for value in config.train.dpo.beta * (ours - theirs)]

    def rewards(prompts: Sequence[Prompt], answers: Sequence[str]) -> list[AnswerReward]:
        return _rewarded(prompts, answers, tokens, scores)

    model = {
        "name": f"{policy} against {reference}",
        "fingerprint": f"{model_identity(policy)} / {model_identity(reference)}",
        "beta": config.train.dpo.beta,
    }
    return AnswerScorer(f"{policy}-implicit", model, rewards)


def _of_function(call: RewardFunction) -> Rewards:
    """A function or a service, which get the texts; both raise `DataError` unless each gets a number."""

    def rewards(prompts: Sequence[Prompt], answers: Sequence[str]) -> list[AnswerReward]:
        values = call(prompts, [Completion(text=answer) for answer in answers])
        return [AnswerReward(value=float(value)) for value in values]

    return rewards


@contextmanager
def _rating_judge(config: RunConfig) -> Iterator[AnswerScorer]:
    """The judge's ratings; an answer that it does not rate has a reason instead."""
    with asyncio.Runner() as runner:
        judge = open_judge(config)
        engine = judge.engine
        assert engine is not None, "a judge that asks has an engine"

        def rewards(prompts: Sequence[Prompt], answers: Sequence[str]) -> list[AnswerReward]:
            completions = [Completion(text=answer) for answer in answers]
            width = config.engine.in_flight
            rated = runner.run(
                judge_ratings(prompts, completions, engine, judge.constitution, config.label, width)
            )
            return [
                AnswerReward(value=None, reason=one) if isinstance(one, str) else AnswerReward(value=one)
                for one in rated
            ]

        try:
            model = {"name": engine.identity.name, "fingerprint": judge.identity}
            yield AnswerScorer(f"{engine.identity.name}-ratings", model, rewards)
        finally:
            runner.run(engine.close())


def _renders(config: RunConfig, path: str, limit: int | None) -> tuple[Callable[[Prompt, str], _Tokens], int]:
    """The function from a prompt and an answer to tokens, cut to `limit` from the left, and the pad id."""
    tokenizer = load_tokenizer(path)
    renderer = Renderer(tokenizer, path, turn_ends(path, tokenizer), RenderSettings.of(config.engine))

    def tokens(prompt: Prompt, answer: str) -> _Tokens:
        start = renderer.prompt_ids(prompt.messages)
        ids = start + renderer.answer_ids(prompt.messages, answer)
        over = 0 if limit is None else max(0, len(ids) - limit)
        # A log-probability needs a token before the first that it is of.
        return _Tokens(ids[over:], max(1, len(start) - over), over > 0)

    return tokens, tokenizer.pad_token_id or 0


def _rewarded(
    prompts: Sequence[Prompt],
    answers: Sequence[str],
    tokens: Callable[[Prompt, str], _Tokens],
    scores: Callable[[Sequence[_Tokens]], list[float]],
) -> list[AnswerReward]:
    """The scores of all answers that the chat template takes, and why the others have none."""
    found: list[_Tokens | str] = []
    for prompt, answer in zip(prompts, answers, strict=True):
        try:
            found.append(tokens(prompt, answer))
        except DataError as problem:
            found.append(str(problem))
    ready = [each for each in found if isinstance(each, _Tokens)]
    values = iter(scores(ready) if ready else [])
    return [
        AnswerReward(value=None, reason=each)
        if isinstance(each, str)
        else AnswerReward(value=next(values), truncated=each.truncated)
        for each in found
    ]


def _context(model: Any, max_length: int | None) -> int | None:
    """The tokens that a model may be given: its own context, or fewer. None where nothing says."""
    own = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return min(filter(None, (own, max_length)), default=None)


def _device() -> tuple[torch.device, torch.dtype]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return device, held_dtype(trained=False)
