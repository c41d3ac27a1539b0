"""What Quark learns from in a round: all samples so far, each behind the token of its quantile."""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constitute.config import RunConfig
from constitute.engines.render import Renderer, RenderSettings
from constitute.engines.tokenizer import load_tokenizer, turn_ends
from constitute.errors import DataError
from constitute.progress import Progress
from constitute.train.common import sharding
from constitute.train.common.artefact import finished, loss_figures, model_identity, publish, recipe
from constitute.train.common.fit import Job, drop_checkpoints
from constitute.train.common.memory import memory_advice
from constitute.train.common.precision import saved_dtype
from constitute.train.common.team import gather_team
from constitute.train.imitation.control import opening, reward_tokens
from constitute.train.imitation.learn import Example, Terms, learn
from constitute.train.imitation.lessons import classroom, opened
from constitute.train.imitation.rounds import Asked, by_prompt
from constitute.train.imitation.start import check_whole, saving, start_actor
from constitute.types import Prompt

KIND = "quark"
_KNOBS = "train.conditioned.microbatch_tokens, or set train.conditioned.gradient_checkpointing=true"
_NO_LOSS = -100


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def quantile_of(score: float, ordered: Sequence[float], quantiles: int) -> int:
    """The quantile (1 the worst) of `score` among the `ordered` scores of the pool, itself among them.

    Equal scores share the quantile of their middle rank, and the greatest are always the best: were a score
    that more than half of the pool has put by its last rank, it would stand among the best.
    """
    below, upto = bisect_left(ordered, score), bisect_right(ordered, score)
    if upto == len(ordered):
        return quantiles
    return -(-quantiles * (below + upto) // (2 * len(ordered)))


@dataclass(frozen=True)
class Sample:
    """A whole response in the pool."""

    prompt: Prompt
    text: str
    score: float


def samples_of(folder: Path, prompts: Sequence[Prompt], n: int) -> tuple[list[Sample], int]:
    """The responses that ended with something said, and how many did not. They stand prompt after prompt."""
    by_id = {prompt.id: prompt for prompt in prompts}
    found = [sample for samples in by_prompt(folder, n) for sample in samples]
    kept = [Sample(by_id[one.prompt_id], one.text.strip(), one.score) for one in found if one.eligible]
    return kept, len(found) - len(kept)


@dataclass(frozen=True)
class Learner:
    """What learns in each round: the model at the start as the reference, its renderer and its tokens."""

    start: str
    config: RunConfig
    progress: Progress
    renderer: Renderer
    tokens: tuple[int, ...]
    best_template: str

    @classmethod
    def of(cls, start: str, config: RunConfig, progress: Progress) -> Learner:
        """Raises `UsageError` for a chat template that lets no token stand right before the answer."""
        tokenizer, names = load_tokenizer(start), reward_tokens(config.train.quark.quantiles)
        settings = RenderSettings.of(config.engine)

        def build(own: Any) -> Renderer:
            return Renderer(own, start, turn_ends(start, own), settings)

        room = classroom(tokenizer, build, config.train.conditioned, config.seed)
        opened(room, names[-1])
        ids = tuple(int(tokenizer.convert_tokens_to_ids(name)) for name in names)
        return cls(start, config, progress, build(tokenizer), ids, opening(room.template, names[-1]))

    def best(self, asked: Asked) -> Asked:
        """The prompts with the best token behind each."""
        return Asked(asked.prompts, [[*ids, self.tokens[-1]] for ids in asked.ids])

    def examples(self, pool: Sequence[Sample]) -> list[Example]:
        """Every response behind its prompt and its quantile's token, and beside it without the token."""
        ordered = sorted(sample.score for sample in pool)
        found = []
        for sample in pool:
            start = self.renderer.prompt_ids(sample.prompt.messages)
            own = self.renderer.answer_ids(sample.prompt.messages, sample.text)
            token = self.tokens[quantile_of(sample.score, ordered, len(self.tokens)) - 1]
            row = ([*start, token, *own], [_NO_LOSS] * (len(start) + 1) + own)
            found.append(Example(row, ((start + own, [_NO_LOSS] * len(start) + own),)))
        return found

    def learn(self, policy: str, pool: Sequence[Sample], out: Path) -> tuple[str, dict[str, Any]]:
        """Learn the pool from `policy` on into `out`; returns the folder and the loss.

        Raises `DataError` where no response of the pool fits.
        """
        settings, quark, seed = self.config.train.conditioned, self.config.train.quark, self.config.seed
        examples = self.examples(pool)
        kept = [example for example in examples if len(example.row[0]) <= settings.max_length]
        if not kept:
            raise DataError(
                f"none of {len(examples)} responses ended within {settings.max_length} tokens; raise "
                "train.conditioned.max_length and train.best_of_n.max_new_tokens"
            )
        learned = digest(repr([example.row[0] for example in kept]))
        made_by = recipe(
            KIND,
            settings,
            seed,
            policy=model_identity(policy),
            pool=learned,
            kl=str(quark.kl_coef),
            **self.config.train.footprint.inputs,
        )
        done = finished(out, made_by)
        if done is not None:
            return str(out), done
        team = gather_team()
        if quark.kl_coef:
            check_whole(team, "train.quark.kl_coef")
        with self.progress.waiting(f"loading {policy}"):
            actor, tokenizer = start_actor(policy, (), settings.lora_rank, seed, team)
            reference = None
            if quark.kl_coef:
                reference, _ = start_actor(self.start, (), 0, seed, team, trained=False)
        terms = Terms(kl=quark.kl_coef, reference=reference, vocabulary=min(self.tokens))
        # The settings that its messages name are those of conditioned training.
        job = Job("conditioned", out, made_by, seed, self.progress, self.config.train.optimizer)
        with memory_advice(_KNOBS):
            losses = learn(actor, kept, terms, settings, job, pad_id=tokenizer.pad_token_id or 0)
        summary = {**loss_figures(losses), "too_long": len(examples) - len(kept)}
        network = sharding.whole_model(actor.model, saved_dtype(self.config.train.save_dtype, self.start))
        save = saving(network, tokenizer, self.best_template, losses)
        publish(out, save, made_by=made_by, summary=summary, base=policy)
        drop_checkpoints(out)
        return str(out), summary
