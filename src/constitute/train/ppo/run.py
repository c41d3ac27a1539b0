"""PPO on AI feedback: roll out, score, estimate advantages, update, push the weights.

After arXiv 1909.08593 and 2009.01325. Deviates from them in whitening advantages once over the whole
batch, in placing the score on the last generated token, and in clipping the gradients.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from constitute.config.ppo import PPOConfig
from constitute.engines.render import RenderSettings
from constitute.errors import UsageError
from constitute.progress import Progress, Silent
from constitute.train.common import losses, rollout
from constitute.train.common.agreement import push_in
from constitute.train.common.artefact import finished, publish, recipe
from constitute.train.common.batching import Batching, TokenBatch
from constitute.train.common.memory import memory_advice
from constitute.train.common.models import ActorCritic
from constitute.train.common.shared import can_share, worth_sharing
from constitute.train.common.team import Team, gather_team
from constitute.train.common.trackers import check_trackers
from constitute.train.ppo.ahead import Ahead, weight_figures
from constitute.train.ppo.algorithms import find_algorithm
from constitute.train.ppo.experience import ScoredBatch, experience, first_pass_measures, unit_of
from constitute.train.ppo.history import History, Line, iteration_figures, run_summary
from constitute.train.ppo.probe import Probe, Rollouter, Scores
from constitute.train.ppo.ptx import Labelled, add_ptx, read_ptx
from constitute.train.ppo.replay import save_prompts, save_rollouts
from constitute.train.ppo.sampling import Sampler, flat_groups, seed_of, with_groups, with_values
from constitute.train.ppo.setup import Models, fitting, input_hashes, set_up
from constitute.train.ppo.sync import Sync
from constitute.train.ppo.update import update
from constitute.train.ppo.watch import open_watch, shown
from constitute.train.rewards.parts import (
    Reward,
    RewardPart,
    Scorer,
    as_parts,
    final_scores,
    values_of,
)
from constitute.train.rewards.welfare import Welfare, check_welfare, total_rewards
from constitute.types import Prompt


def train_ppo(
    prompts: Sequence[Prompt],
    prompt_ids: Sequence[Sequence[int]],
    policy: str,
    reward: Reward,
    out: Path,
    config: PPOConfig,
    *,
    engine: Rollouter | None,
    seed: int,
    progress: Progress,
    reference: str | None = None,
    rendering: RenderSettings | None = None,
) -> dict[str, Any]:
    """Train `policy` against `reward` (a reward model's folder, a function, or parts) and save it to `out`.

    `prompt_ids` are the prompts as the engine renders them; `engine` samples and takes the new weights (of
    several processes, the first alone has one); `reference` (the policy itself unless given) anchors the
    KL. Started again, the run goes on from its last checkpoint. Returns the summary of figures. Raises
    `UsageError`, `DataError`, `EngineError`, `RunMismatch` for another recipe in `out`, and `GateFailed`
    for a loss that is not finite.
    """
    find_algorithm(config)
    if reference is not None and not config.kl_coef:
        raise UsageError(
            f"a reference is given and train.{config.section}.kl_coef is 0, so that nothing is measured from "
            f"it; leave the reference out, or set train.{config.section}.kl_coef=1e-9 to measure the KL alone"
        )
    team = gather_team()
    if team.main and engine is None:
        raise UsageError("the first process has no engine to sample with; give train_ppo an engine")
    with team.phase("start"):
        prompts, prompt_ids, limit = team.share(
            (prompts, prompt_ids, getattr(engine, "context_length", None))
        )
    parts = as_parts(reward)
    check_welfare(Welfare.of(config, config.section), parts)
    made_by = recipe(config.section, config, seed, **input_hashes(prompt_ids, policy, parts, reference))
    done = finished(out, made_by)
    if done is not None:
        return done
    kept, kept_ids = fitting(prompts, prompt_ids, limit, config)
    check_trackers(config.report_to, config.section)
    with progress.waiting("loading the policy, its reference, the critic and the reward model"):
        models = set_up(policy, parts, reference, config, team, seed)
    ptx = read_ptx(config, models.tokenizer, models.eos, limit, rendering)
    history = History(out, made_by, models, config)
    run = _Run(models, parts, engine, kept, kept_ids, config, seed, history, config.kl_coef, ptx)
    lines = run.resume()
    history.note_disk(progress if team.main else Silent())
    if config.save_rollouts and team.main:
        save_prompts(out, kept, kept_ids)
    findings = _train(run, lines, progress if team.main else Silent())
    summary = run_summary(lines) | {"prompts": len(kept), "prompts_too_long": len(prompts) - len(kept)}
    summary |= {"critic_from": models.critic_from, "processes": team.size, **history.best()}
    summary["findings"] = findings
    with team.phase("save"):
        last = history.whole_policy() if team.saves else None
    if team.main:
        publish(out, partial(history.save_policy, last), made_by=made_by, summary=summary, base=policy)
    return summary


def _train(run: _Run, lines: list[Line], progress: Progress) -> dict[str, str]:
    """The iterations after those in `lines`, to which theirs are added; returns the doctor's findings."""
    config, history, main = run.config, run.history, run.team.main
    progress.start("train ppo", config.iterations, len(lines))
    watched = [part.name for part in run.parts if not part.weight]
    with open_watch(
        history.out, config, history.made_by, done=len(lines), progress=progress, watched=watched, main=main
    ) as watch:
        for iteration in range(len(lines), config.iterations):
            with memory_advice(_knobs(config)):
                line, rollouts, values = run.iterate(iteration)
            lines.append(line)
            if main:
                history.record(line)
                watch.iteration(line, rollouts, values)
            progress.advance("train ppo", "ok", **shown(line))
            if (iteration + 1) % config.checkpoint_every == 0 or iteration + 1 == config.iterations:
                run.checkpoint(lines)
    progress.finish("train ppo")
    return {finding.kind: finding.sentence for finding in watch.findings}


def _knobs(config: PPOConfig) -> str:
    """What to lower where memory runs out."""
    at = f"train.{config.section}"
    return f"{at}.microbatch_tokens or {at}.max_new_tokens, or set {at}.critic=shared"


def _measured(
    model: ActorCritic, config: PPOConfig, from_engine: bool, batch: TokenBatch
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities, entropies and values of a pass; values alone where the engine's log-probabilities
    are taken and the update cannot reuse the graph."""
    if from_engine and not torch.is_grad_enabled():
        nothing_N = torch.zeros(len(batch.target_N), device=batch.target_N.device)
        return nothing_N, nothing_N, model.values(batch)
    outputs: tuple[Tensor, Tensor, Tensor] = model(batch, config.temperature, entropy=not from_engine)
    return outputs


@dataclass
class _Run:
    """The state of one PPO run: its models, its engine and the KL coefficient."""

    models: Models
    parts: Sequence[RewardPart]
    engine: Rollouter | None
    prompts: list[Prompt]
    prompt_ids: list[list[int]]
    config: PPOConfig
    seed: int
    history: History
    kl_coef: float
    ptx: list[Labelled]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def team(self) -> Team:
        """The processes that train together."""
        return self.models.learner.team

    def iterate(self, iteration: int) -> tuple[Line, rollout.Rollouts, list[float]]:
        """One batch: sample, score, learn, push; returns its metrics, rollouts and rewards."""
        self.seconds = {}
        config, learner, scheduler = self.config, self.models.learner, self.models.scheduler
        rollouts, values, replaced = self._batch(iteration)
        if config.save_rollouts and self.team.main:
            save_rollouts(self.history.out, iteration + 1, self.sampler.settings(iteration), rollouts, values)
        total = self._total(values, rollouts)
        scores = final_scores(total, rollouts.ended, config)
        with self._timed("sync"):
            before = self.sync.before(rollouts)
        self._sample_ahead(iteration + 1)
        with self._timed("forward"):
            batch, passed = self._forward(rollouts, scores)
        learned = experience(batch)
        with self._timed("update"):
            extra = partial(self._add_ptx, iteration) if self.ptx else None
            stats = update(
                learner, learned, config, seed_of(self.seed, "minibatches", iteration), passed, extra
            )
        line = iteration_figures(iteration, learned, total, values, stats)
        if config.samples_per_prompt > 1:
            flat = len(flat_groups(scores, config.samples_per_prompt))
            groups = config.batch_size // config.samples_per_prompt
            line |= {"flat_groups": flat / groups, "groups_replaced": replaced}
        line |= zip(("learning_rate", "critic_learning_rate"), scheduler.get_last_lr(), strict=True)
        self._adapt(line["kl"], len(total))
        scheduler.step()
        if config.off_by:
            with self._timed("generate"):
                self.ahead.finish()
        line |= weight_figures(learned)
        line |= self._push(before, iteration + 1)
        spent = sum(self.seconds.values())
        line["tokens_per_second"] = rollouts.mask_BT.sum().item() / spent
        return line | {"seconds": {**self.seconds, **self._beside(), "total": spent}}, rollouts, total

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

    def _total(self, values: dict[str, list[float]], rollouts: rollout.Rollouts) -> list[float]:
        """One reward a response."""
        welfare = Welfare.of(self.config, self.config.section)
        return total_rewards(self.parts, values, welfare, rollouts.prompts)

    def _forward(
        self, rollouts: rollout.Rollouts, scores: Sequence[float]
    ) -> tuple[ScoredBatch, rollout.Before]:
        """Log-probabilities, entropies and values before the update, and graphs for it to reuse."""
        config, model, team = self.config, self.models.learner.model, self.team
        passes = self._passes(rollouts)
        mine = passes.hand(rollouts, range(len(rollouts.sequences)), team.size, team.rank)
        args = (rollouts, mine, passes)
        from_engine, kept, reference_BT = config.old_logprobs == "engine", {}, None
        algorithm = find_algorithm(config)
        later = first_pass_measures(algorithm, config)
        with team.accelerator.autocast():
            if self.models.reference is not None:
                with torch.no_grad():
                    (reference_BT,), _ = rollout.forward_all(self.models.reference, *args, count=1)
            if later:
                logprobs_BT, entropy_BT, values_BT = (torch.zeros_like(rollouts.mask_BT) for _ in range(3))
            else:
                found, kept = rollout.forward_all(
                    partial(_measured, model, config, from_engine),
                    *args,
                    count=3,
                    keep=config.minibatches == 1,
                )
                logprobs_BT, entropy_BT, values_BT = (team.sum(tensor) for tensor in found)
            if from_engine:
                logprobs_BT = rollout.engine_logprobs(rollouts)
                # The mean of -log pi over samples is an estimate of the entropy.
                entropy_BT = -logprobs_BT
        batch = ScoredBatch(
            algorithm=algorithm,
            rollouts=rollouts,
            scores_B=torch.tensor(scores, device=rollouts.mask_BT.device),
            logprobs_BT=logprobs_BT,
            entropy_BT=entropy_BT,
            values_BT=values_BT,
            ref_logprobs_BT=None if reference_BT is None else team.sum(reference_BT),
            kl_coef=self.kl_coef,
            config=config,
            measured=not later,
        )
        return batch, rollout.Before(passes, kept)

    def _passes(self, rollouts: rollout.Rollouts) -> rollout.Passes:
        """How these rollouts become passes: a prompt once for all of its samples where that pays."""
        config, team = self.config, self.team
        return rollout.Passes(
            self.models.learner.pad_id,
            config.microbatch_tokens,
            share_prompts=self._may_share and worth_sharing(rollouts),
            unit=unit_of(find_algorithm(config), config),
            # Every process of a sharded model must make as many passes as the others.
            keep_tokens=config.graph_tokens if team.sharding is None else 0,
            cut=team.cut,
        )

    @cached_property
    def _may_share(self) -> bool:
        """Whether the settings and the models let a prompt be passed once for its samples."""
        config, model = self.config, self.models.actor_critic
        if config.samples_per_prompt < 2 or not config.share_prompts:
            return False
        plain = self.team.sharding is None and not config.gradient_checkpointing
        plain = plain and find_algorithm(config).group_loss is None
        trunks = [trunk for trunk in (model.actor.model, model.critic) if trunk is not None]
        return plain and all(map(can_share, trunks))

    def _add_ptx(self, iteration: int, step: int) -> None:
        add_ptx(self.models.learner, self.ptx, self.config, seed_of(self.seed, f"ptx:{step}", iteration))

    def _adapt(self, kl: float | None, episodes: int) -> None:
        if self.config.kl_target is not None and kl is not None:
            self.kl_coef = losses.adaptive_kl(
                self.kl_coef, kl, self.config.kl_target, episodes, self.config.kl_horizon
            )

    def resume(self) -> list[Line]:
        """Load the last checkpoint and give the engine its weights; returns the metrics up to it."""
        with self._timed("sync"):
            before = self.sync.at_start(self.prompt_ids, self.sampler.settings(0))
            self.sync.rest()
        lines, self.kl_coef = self.history.resume(self.kl_coef)
        self.sync.pushes = [push for push in map(push_in, lines) if push is not None]
        if self.config.off_by and 0 < len(lines) < self.config.iterations:
            with self.team.phase("start"):
                self.ahead.load(len(lines))
        self._push(before, len(lines))
        return lines

    def checkpoint(self, lines: Sequence[Line]) -> None:
        """Save the state; the others wait, so that none runs ahead of what is on disk."""
        with self.team.phase("checkpoint"):
            if self.config.off_by:
                self.ahead.save(len(lines))
            if self.team.saves:
                self.history.checkpoint(lines, self.kl_coef)
            if self.config.off_by:
                self.ahead.forget_all_but(len(lines))
            self.team.share(None)

    @cached_property
    def sync(self) -> Sync:
        """What pushes the weights and checks that they arrive."""
        learner, config = self.models.learner, self.config
        budget = config.microbatch_tokens
        return Sync(
            self.engine, learner.model.actor, self.team, learner.pad_id, budget, config.sync_gap_limit
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
