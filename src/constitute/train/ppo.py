"""PPO with a critic on AI feedback: roll out, score, estimate advantages, update, push the weights.

After arXiv 1909.08593 and 2009.01325. Deviates from them in whitening advantages once over the whole
batch, in placing the score on the last generated token, and in clipping the gradients.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from constitute.config.train import PPOConfig
from constitute.errors import DataError
from constitute.progress import Progress
from constitute.train import losses, rollout
from constitute.train.artefact import finished, model_fingerprint, publish, recipe
from constitute.train.batching import prompt_order
from constitute.train.checkpoint import last_checkpoint, load_checkpoint, save_checkpoint
from constitute.train.memory import memory_advice
from constitute.train.setup import Players, set_up
from constitute.train.summary import iteration_figures, run_summary
from constitute.train.sync import PROBE_ROWS, Rollouter, check_gap, logprob_gap, named_weights
from constitute.train.update import update
from constitute.types import Prompt, SamplingParams

Line = dict[str, Any]
_KNOBS = "train.ppo.microbatch_tokens or train.ppo.max_new_tokens, or set train.ppo.critic=shared"
_SHOWN = ("reward", "kl", "entropy", "length", "eos_rate", "tokens_per_second")


def train_ppo(
    prompts: Sequence[Prompt],
    prompt_ids: Sequence[Sequence[int]],
    policy: str,
    reward: str | rollout.RewardFunction,
    out: Path,
    config: PPOConfig,
    *,
    engine: Rollouter,
    seed: int,
    progress: Progress,
    reference: str | None = None,
) -> dict[str, Any]:
    """Train `policy` against `reward`, a reward model's folder or a function, and save it to `out`.

    `prompt_ids` are the prompts as the engine renders them; `engine` samples and takes the new weights;
    `reference` (the policy itself unless given) anchors the KL. Started again, it goes on from its last
    checkpoint. Returns the summary of figures. Raises `UsageError`, `DataError`, `EngineError`,
    `RunMismatch` for another recipe in `out`, and `GateFailed` for a loss that is not finite.
    """
    made_by = recipe("ppo", config, seed, **_inputs(prompt_ids, policy, reward, reference))
    done = finished(out, made_by)
    if done is not None:
        return done
    prompts, prompt_ids, too_long = _fitting(prompts, prompt_ids, engine, config)
    last = last_checkpoint(out / "checkpoints", made_by)
    players = set_up(policy, reward, reference, config)
    run = _Run(players, engine, prompts, prompt_ids, out, config, seed, made_by)
    lines = run.resume(last)
    run.push()
    progress.start("train ppo", config.iterations, len(lines))
    for iteration in range(len(lines), config.iterations):
        with memory_advice(_KNOBS):
            line = run.iterate(iteration)
        lines.append(line)
        run.record(line)
        progress.advance("train ppo", **{name: line[name] for name in _SHOWN})
        if (iteration + 1) % config.checkpoint_every == 0 or iteration + 1 == config.iterations:
            run.checkpoint(iteration + 1)
    progress.finish("train ppo")
    summary = run_summary(lines) | {"prompts": len(prompts), "prompts_too_long": too_long}
    summary["critic_from"] = players.critic_from
    publish(out, run.save, made_by=made_by, summary=summary, base=policy)
    return summary


def _inputs(
    prompt_ids: Sequence[Sequence[int]],
    policy: str,
    reward: str | rollout.RewardFunction,
    reference: str | None,
) -> dict[str, str]:
    rendered = hashlib.sha256(json.dumps([list(ids) for ids in prompt_ids]).encode()).hexdigest()[:16]
    named = reward if isinstance(reward, str) else f"{reward.__module__}:{reward.__qualname__}"
    return {
        "prompts": rendered,
        "policy": model_fingerprint(policy),
        "reward": model_fingerprint(named),
        "reference": model_fingerprint(reference or policy),
    }


def _fitting(
    prompts: Sequence[Prompt], prompt_ids: Sequence[Sequence[int]], engine: Any, config: PPOConfig
) -> tuple[list[Prompt], list[list[int]], int]:
    """The prompts that leave room for a whole response, and how many did not."""
    limit = getattr(engine, "context_length", None)
    room = None if limit is None else limit - config.max_new_tokens
    kept = [pair for pair in zip(prompts, prompt_ids, strict=True) if room is None or len(pair[1]) <= room]
    if not kept:
        raise DataError(
            "there are no prompts to train on"
            if not prompts
            else f"no prompt leaves room for {config.max_new_tokens} new tokens in a context of {limit}; "
            "lower train.ppo.max_new_tokens or raise engine.context_length"
        )
    return [pair[0] for pair in kept], [list(pair[1]) for pair in kept], len(prompts) - len(kept)


class _Run:
    """The state of one PPO run: players, KL coefficient and where its files are."""

    def __init__(
        self,
        players: Players,
        engine: Rollouter,
        prompts: list[Prompt],
        prompt_ids: list[list[int]],
        out: Path,
        config: PPOConfig,
        seed: int,
        made_by: dict[str, Any],
    ) -> None:
        self.players, self.engine, self.config, self.seed = players, engine, config, seed
        self.prompts, self.prompt_ids = prompts, prompt_ids
        self.out, self.made_by = out, made_by
        self.kl_coef = config.kl_coef
        self.seconds: dict[str, float] = {}

    def iterate(self, iteration: int) -> Line:
        """One batch: sample, score, learn, push; returns its metrics."""
        self.seconds = {}
        config, pad, budget = self.config, self.players.learner.pad_id, self.config.microbatch_tokens
        rollouts = self._sample(iteration)
        with self._timed("reward"):
            values = rollout.rewards_of(self.players.reward, rollouts, pad, budget)
            scores = rollout.final_scores(values, rollouts.ended, config.missing_eos_penalty)
        with self._timed("forward"), self.players.learner.accelerator.autocast():
            old = rollout.forward_all(
                lambda batch: self.players.actor_critic(batch, config.temperature), rollouts, pad, budget
            )
            reference = rollout.forward_all(
                lambda batch: self.players.reference(batch, config.temperature), rollouts, pad, budget
            )
        logprobs_BT, entropy_BT, values_BT = old
        learned = rollout.experience(
            rollouts, scores, logprobs_BT, reference[0], values_BT, self.kl_coef, config
        )
        with self._timed("update"):
            stats = update(self.players.learner, learned, config, self._seed("minibatches", iteration))
        line = iteration_figures(
            iteration, learned, values, reference[0], entropy_BT, stats, self.kl_coef, self.players.scheduler
        )
        self._adapt(line["kl"], len(values))
        self.players.scheduler.step()
        probe = slice(0, PROBE_ROWS)
        completions = [list(completion.token_ids) for completion in rollouts.completions[probe]]
        prompts = [
            row[:start] for row, start in zip(rollouts.sequences, rollouts.prompt_lengths, strict=True)
        ]
        line["sync_gap"] = self._push(prompts[probe], completions)
        total = sum(self.seconds.values())
        line["tokens_per_second"] = rollouts.mask_BT.sum().item() / total
        return line | {"seconds": {**self.seconds, "total": total}}

    def _sample(self, iteration: int) -> rollout.Rollouts:
        rows = prompt_order(len(self.prompts), self.config.batch_size, iteration, self.seed)
        ids = [self.prompt_ids[row] for row in rows]
        sampling = SamplingParams(
            max_tokens=self.config.max_new_tokens,
            temperature=self.config.temperature,
            seed=self._seed("rollouts", iteration),
        )
        with self._timed("generate"):
            completions = self.engine.generate_ids(ids, sampling, logprobs=False)
        device = self.players.learner.accelerator.device
        return rollout.gather([self.prompts[row] for row in rows], ids, completions, self.players.eos, device)

    def _adapt(self, kl: float, episodes: int) -> None:
        if self.config.kl_target is not None:
            self.kl_coef = losses.adaptive_kl(
                self.kl_coef, kl, self.config.kl_target, episodes, self.config.kl_horizon
            )

    def push(self) -> None:
        """Bring the engine to the weights a run starts or goes on with."""
        rows = [list(ids) for ids in self.prompt_ids[:PROBE_ROWS]]
        end = min(self.players.eos)
        self._push(rows, [[end]] * len(rows))

    def _push(self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]) -> float:
        """Send the weights and check them on a probe; returns the gap in nats per token."""
        actor = self.players.actor_critic.actor
        with self._timed("sync"):
            self.engine.update_weights(named_weights(actor.model))
            gap = logprob_gap(
                self.engine,
                actor,
                prompts,
                completions,
                self.players.learner.pad_id,
                self.config.microbatch_tokens,
            )
        check_gap(gap)
        return gap

    def resume(self, checkpoint: Path | None) -> list[Line]:
        """Restore the last checkpoint; returns the metrics lines up to it and drops later ones."""
        if checkpoint is None:
            self._rewrite([])
            return []
        state = load_checkpoint(
            checkpoint, self.players.actor_critic, self.players.learner.optimizer, self.players.scheduler
        )
        self.kl_coef = state["kl_coef"]
        stored = (self.out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        lines = [json.loads(text) for text in stored[: state["iteration"]]]
        self._rewrite(lines)
        return lines

    def _rewrite(self, lines: list[Line]) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        new = self.out / ".metrics.jsonl.new"
        new.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        os.replace(new, self.out / "metrics.jsonl")

    def record(self, line: Line) -> None:
        """Append one line to the metrics; on disk before the checkpoint that counts on it."""
        with (self.out / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def checkpoint(self, iteration: int) -> None:
        """Save everything a later run needs to go on after `iteration` iterations."""
        learner = self.players.learner
        state = {"kl_coef": self.kl_coef, "made_by": self.made_by}
        save_checkpoint(
            self.out / "checkpoints",
            iteration,
            self.players.actor_critic,
            learner.optimizer,
            self.players.scheduler,
            state,
        )

    def save(self, folder: Path) -> None:
        """Write the policy as a plain Hugging Face folder."""
        self.players.actor_critic.actor.model.save_pretrained(folder)
        self.players.tokenizer.save_pretrained(folder)

    def _seed(self, what: str, iteration: int) -> int:
        digest = hashlib.sha256(f"{self.seed}:{what}:{iteration}".encode()).digest()
        return int.from_bytes(digest[:6], "big")

    @contextmanager
    def _timed(self, phase: str) -> Any:
        start = time.perf_counter()
        yield
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start
