"""The iterations of a PPO run: sample a batch, score it, learn from it, push the weights, measure."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import torch

from constitute.config.ppo import PPOConfig
from constitute.stats import mean
from constitute.train.common import rollout
from constitute.train.common.agreement import push_in
from constitute.train.common.batching import Batching
from constitute.train.common.team import Team
from constitute.train.ppo.ahead import Ahead, weight_figures
from constitute.train.ppo.experience import experience
from constitute.train.ppo.forward import Forward
from constitute.train.ppo.held_out import due, evaluation_of, figures_of
from constitute.train.ppo.history import History, Line, iteration_figures
from constitute.train.ppo.keep import Keeper
from constitute.train.ppo.measure import HeldOut
from constitute.train.ppo.mixing import source_figures
from constitute.train.ppo.probe import Probe, Rollouter, Scores
from constitute.train.ppo.ptx import Labelled, add_ptx
from constitute.train.ppo.replay import save_rollouts
from constitute.train.ppo.sampling import Sampler, flat_groups, seed_of, with_groups, with_values
from constitute.train.ppo.setup import Models
from constitute.train.ppo.sync import Sync
from constitute.train.ppo.update import Learner, update
from constitute.train.rewards.parts import RewardPart, Scorer, values_of
from constitute.train.rewards.scores import final_scores, length_cost
from constitute.train.rewards.welfare import Welfare, total_rewards
from constitute.types import Prompt


@dataclass
class Run:
    """One PPO run: its models, its rewards, its engine and what it keeps."""

    models: Models
    parts: Sequence[RewardPart]
    engine: Rollouter | None
    prompts: list[Prompt]
    prompt_ids: list[list[int]]
    config: PPOConfig
    seed: int
    keeper: Keeper
    ptx: list[Labelled]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def team(self) -> Team:
        """The processes that train together."""
        return self.models.learner.team

    @property
    def history(self) -> History:
        """The files of the run."""
        return self.keeper.history

    @property
    def held(self) -> HeldOut:
        """The held-out prompts and what was measured on them."""
        return self.keeper.held

    def iterate(self, iteration: int) -> tuple[Line, rollout.Rollouts, list[float], dict[str, list[float]]]:
        """One batch: sample, score, learn, push; returns its metrics, rollouts, rewards and their parts."""
        self.seconds = {}
        config, scheduler = self.config, self.models.scheduler
        rollouts, values, replaced = self._batch(iteration)
        if config.save_rollouts and self.team.main:
            save_rollouts(self.history.out, iteration + 1, self.sampler.settings(iteration), rollouts, values)
        total = self._total(values, rollouts)
        self.keeper.scored(total)
        state = self.keeper.state
        lengths = [len(one.token_ids) for one in rollouts.completions]
        scores = final_scores(total, rollouts.ended, config, lengths, state.moments)
        with self._timed("sync"):
            before = self.sync.before(rollouts)
        self._sample_ahead(iteration + 1)
        with self._timed("forward"):
            batch, passed = self.forward.measured(rollouts, scores, state.kl_coef)
        learned = experience(batch)
        with self._timed("update"):
            learner, extra = self._learns(iteration)
            stats = update(
                learner, learned, config, seed_of(self.seed, "minibatches", iteration), passed, extra
            )
        line = iteration_figures(iteration, learned, total, values, stats)
        line |= source_figures(rollouts.prompts, total, config)
        if config.length_penalty:
            line["length_penalty"] = mean([length_cost(length, config) for length in lengths])
        if config.samples_per_prompt > 1:
            flat = len(flat_groups(scores, config.samples_per_prompt))
            groups = config.batch_size // config.samples_per_prompt
            line |= {"flat_groups": flat / groups, "groups_replaced": replaced}
        # torchao keeps a rate as a tensor.
        rates = map(float, scheduler.get_last_lr())
        line |= zip(("learning_rate", "critic_learning_rate"), rates, strict=True)
        self.keeper.adapt(line["kl"], len(total), iteration)
        scheduler.step()
        if config.off_by:
            with self._timed("generate"):
                self.ahead.finish()
        line |= weight_figures(learned)
        line |= self._push(before, iteration + 1)
        with self._timed("keep"):
            line |= self.keeper.follow(iteration + 1)
        spent = sum(self.seconds.values())
        line["tokens_per_second"] = rollouts.mask_BT.sum().item() / spent
        return line | {"seconds": {**self.seconds, **self._beside(), "total": spent}}, rollouts, total, values

    def _beside(self) -> dict[str, float]:
        """Seconds that the other phases did not wait for."""
        overlapped = self.config.off_by and self.ahead.overlaps
        return {"ahead": self.ahead.seconds} if overlapped else {}

    def _batch(self, iteration: int) -> tuple[rollout.Rollouts, dict[str, list[float]], int]:
        """Rollouts, their rewards, and how many groups were replaced because all their scores were alike."""
        config, samples, replaced = self.config, self.config.samples_per_prompt, 0
        rollouts = self._sample(iteration, config.batch_size // samples)
        values = self._reward(rollouts)
        for attempt in range(1, config.resample_rounds + 1):
            scores = final_scores(self._total(values, rollouts), rollouts.ended, config)
            flat = flat_groups(scores, samples)
            if not flat:
                break
            fresh = self._sample(iteration, len(flat), attempt)
            where = (self.models.eos, self.team.device)
            rollouts = with_groups(rollouts, fresh, flat, samples, *where)
            values = with_values(values, self._reward(fresh), flat, samples)
            replaced += len(flat)
        return rollouts, values, replaced

    def _sample(self, iteration: int, groups: int, attempt: int = 0) -> rollout.Rollouts:
        with self._timed("generate"):
            if self.config.off_by:
                return self.ahead.take(iteration)
            return self.sampler.sample(iteration, groups, attempt)

    def _sample_ahead(self, number: int) -> None:
        """Begin the next batch where it may be one update old, then leave the machine to the learner."""
        if self.config.off_by and number < self.config.iterations:
            with self._timed("generate"):
                self.ahead.begin(number)
        if not (self.config.off_by and self.ahead.overlaps):
            with self._timed("sync"):
                self.sync.rest()

    @cached_property
    def ahead(self) -> Ahead:
        """The batch that is sampled before its turn."""
        groups = self.config.batch_size // self.config.samples_per_prompt
        return Ahead(self.sampler, self.history.out, groups)

    @cached_property
    def sampler(self) -> Sampler:
        """What draws prompts and has them answered."""
        models = self.models
        return Sampler(
            self.engine, self.prompts, self.prompt_ids, models.eos, self.team, self.config, self.seed
        )

    def _reward(self, rollouts: rollout.Rollouts) -> dict[str, list[float]]:
        """Every part's rewards; all processes run a sharded model, and the first alone asks the others."""
        batching = Batching(self.models.learner.pad_id, self.config.microbatch_tokens)
        with self._timed("reward"):
            found = {
                name: values_of(source, name, rollouts, batching)
                for name, source in self.models.rewards.items()
                if self.team.main or (self.team.saves and isinstance(source, Scorer))
            }
            shared: dict[str, list[float]] = self.team.share(found)
        return shared

    def _learns(self, iteration: int) -> tuple[Learner, Callable[[int], None] | None]:
        """What learns in an iteration, and what is done to the gradients before each of its steps."""
        learner = self.models.learner
        if iteration < self.config.value_warmup:
            # No gradient is not a gradient of 0: the policy's moments must begin with its own first step.
            return replace(learner, actor_parameters=[]), partial(_forget, learner.actor_parameters)
        return learner, partial(self._add_ptx, iteration) if self.ptx else None

    def measure(self, iteration: int) -> Line:
        """Answer the held-out prompts by the policy as it is, and score the answers; returns the figures."""
        prompts, ids = self.held.prompts
        settings = self.sampler.settings(0).model_copy(
            # The same draws each time: policies that are alike then answer alike.
            update={"seed": seed_of(self.seed, "held out", 0)}
        )
        completions = self.team.share(
            None if self.engine is None else self.engine.generate_ids(ids, settings, logprobs=False)
        )
        rollouts = rollout.gather(prompts, ids, completions, self.models.eos, self.team.device)
        values = self._reward(rollouts)
        one = evaluation_of(iteration, rollouts, self._total(values, rollouts), values)
        self.held.add(one, self.team)
        return figures_of(one)

    def with_held_out(self, line: Line) -> Line:
        """The metrics of an iteration with those of the held-out prompts, where they are due after it."""
        if not self.held.prompts[0] or not due(line["iteration"], self.config):
            return line
        start = time.perf_counter()
        figures = self.measure(line["iteration"])
        spent = time.perf_counter() - start
        seconds = line["seconds"]
        seconds = {**seconds, "held_out": spent, "total": seconds["total"] + spent}
        return {**line, **figures, "seconds": seconds}

    def _total(self, values: dict[str, list[float]], rollouts: rollout.Rollouts) -> list[float]:
        """One reward a response."""
        welfare = Welfare.of(self.config, self.config.section)
        return total_rewards(self.parts, values, welfare, rollouts.prompts)

    @cached_property
    def forward(self) -> Forward:
        """What passes a batch through the models before it is learned from."""
        return Forward(self.models, self.config)

    def _add_ptx(self, iteration: int, step: int) -> None:
        add_ptx(self.models.learner, self.ptx, self.config, seed_of(self.seed, f"ptx:{step}", iteration))

    def resume(self) -> list[Line]:
        """Load the last checkpoint and give the engine its weights; returns the metrics up to it."""
        with self._timed("sync"):
            before = self.sync.at_start(self.prompt_ids, self.sampler.settings(0))
            self.sync.rest()
        lines = self.keeper.resume()
        self.sync.pushes = [push for push in map(push_in, lines) if push is not None]
        if self.config.off_by and 0 < len(lines) < self.config.iterations:
            with self.team.phase("start"):
                self.ahead.load(len(lines))
        self._push(before, len(lines))
        return lines

    def checkpoint(self, lines: Sequence[Line]) -> None:
        """Save the state, and the batch that is sampled ahead."""
        with self.team.phase("checkpoint"):
            if self.config.off_by:
                self.ahead.save(len(lines))
            self.keeper.checkpoint(lines)
            if self.config.off_by:
                self.ahead.forget_all_but(len(lines))
            self.team.share(None)

    @cached_property
    def sync(self) -> Sync:
        """What pushes the weights and checks that they arrive."""
        learner, config = self.models.learner, self.config
        budget = config.microbatch_tokens
        return Sync(
            self.engine,
            learner.model.actor,
            self.team,
            learner.pad_id,
            budget,
            config.sync_gap_limit,
            config.section,
        )

    def _push(self, before: tuple[Probe, Scores | None] | None, version: int) -> dict[str, Any]:
        with self._timed("sync"):
            return self.sync.push(before, f"{self.history.identity}-{version}")

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        with self.team.phase(phase):
            yield
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start


def _forget(parameters: Sequence[torch.nn.Parameter], _: int) -> None:
    """Drop the gradients of `parameters`, so that no step is taken on them."""
    for weight in parameters:
        weight.grad = None
