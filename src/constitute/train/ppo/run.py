"""PPO on AI feedback: roll out, score, estimate advantages, update, push the weights.

After arXiv 1909.08593 and 2009.01325. Deviates from them in whitening advantages once over the whole
batch, in placing the score on the last generated token, and in clipping the gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constitute.config.ppo import PPOConfig
from constitute.config.train import FOOTPRINT, Footprint
from constitute.engines.render import RenderSettings
from constitute.errors import UsageError
from constitute.progress import Progress, Silent
from constitute.threads import threads_kept
from constitute.train.common.artefact import finished, recipe
from constitute.train.common.checkpoint import last_checkpoint
from constitute.train.common.memory import memory_advice
from constitute.train.common.team import gather_team
from constitute.train.common.trackers import check_trackers
from constitute.train.ppo.algorithms import find_algorithm
from constitute.train.ppo.checks import check_held_out, check_renewable, check_settings
from constitute.train.ppo.held_out import Rendered, Split
from constitute.train.ppo.history import History, Line, run_summary
from constitute.train.ppo.iterate import Run
from constitute.train.ppo.keep import Keeper
from constitute.train.ppo.measure import HeldOut, held_out_hash, set_aside
from constitute.train.ppo.mixing import check_mix
from constitute.train.ppo.probe import Rollouter, Unopened
from constitute.train.ppo.ptx import read_ptx
from constitute.train.ppo.replay import save_prompts
from constitute.train.ppo.setup import fitting, input_hashes, set_up
from constitute.train.ppo.state import RunState
from constitute.train.ppo.watch import open_watch, shown
from constitute.train.rewards.parts import Reward, RewardPart, as_parts
from constitute.train.rewards.welfare import Welfare, check_welfare
from constitute.types import Prompt


def train_ppo(
    prompts: Sequence[Prompt],
    prompt_ids: Sequence[Sequence[int]],
    policy: str,
    reward: Reward,
    out: Path,
    config: PPOConfig,
    *,
    engine: Rollouter | Unopened | None,
    seed: int,
    progress: Progress,
    reference: str | None = None,
    rendering: RenderSettings | None = None,
    held_out: Rendered | None = None,
    footprint: Footprint = FOOTPRINT,
) -> dict[str, Any]:
    """Train `policy` against `reward` (a reward model's folder, a function, or parts) and save it to `out`.

    `prompt_ids` are the prompts as the engine renders them; `engine` samples and takes the new weights (of
    several processes, the first alone has one), and is opened once nothing else can refuse the run, where it
    is not open yet; `reference` (the policy itself unless given) anchors the KL; `held_out` are prompts to
    measure on, and their token ids, where the settings name no share. Started again, the run goes on from its
    last checkpoint. Returns the summary of figures. Raises `UsageError`, `DataError`, `EngineError`,
    `RunMismatch` for another recipe in `out`, and `GateFailed` for a loss that is not finite.
    """
    check_settings(config, reference)
    team = gather_team()
    if team.main and engine is None:
        raise UsageError("the first process has no engine to sample with; give train_ppo an engine")
    with team.phase("start"):
        prompts, prompt_ids, held_out = team.share((prompts, prompt_ids, held_out))
    parts = as_parts(reward)
    check_welfare(Welfare.of(config, config.section), parts)
    check_trackers(config.report_to, config.section)
    inputs = input_hashes(prompt_ids, policy, parts, reference) | held_out_hash(held_out)
    inputs |= footprint.inputs
    made_by = recipe(config.section, config, seed, **inputs)
    done = finished(out, made_by)
    if done is not None:
        return done
    last_checkpoint(out / "checkpoints", made_by)
    given = _Given((prompts, prompt_ids), held_out, parts, config, seed)
    # An engine takes long to open, and its context can only leave fewer prompts.
    given.divided(engine, None)
    if isinstance(engine, Unopened):
        with threads_kept():
            engine = engine.open()
    with team.phase("start"):
        limit = team.share(getattr(engine, "context_length", None))
    (kept, kept_ids), held = given.divided(engine, limit)
    with progress.waiting(f"loading {_loaded(parts, config)}"), memory_advice(_knobs(config)):
        models = set_up(policy, parts, reference, config, team, seed, footprint)
    check_renewable(models, config)
    ptx = read_ptx(config, models.tokenizer, models.eos, limit, rendering)
    history, state = History(out, made_by, models, config), RunState(config.kl_coef)
    keeper = Keeper(models, history, HeldOut(out, config, held), config, state)
    run = Run(models, parts, engine, kept, kept_ids, config, seed, keeper, ptx)
    lines = run.resume()
    history.note_disk(progress if team.main else Silent())
    if config.save_rollouts and team.main:
        save_prompts(out, kept, kept_ids)
    findings = _train(run, lines, progress if team.main else Silent())
    fits = len(kept) + (len(held[0]) if held_out is None else 0)
    summary = run_summary(lines, config) | {"prompts": len(kept), "prompts_too_long": len(prompts) - fits}
    summary |= {"critic_from": models.critic_from, "processes": team.size, **run.held.summary}
    if held_out is not None:
        summary["held_out_too_long"] = len(held_out[0]) - len(held[0])
    return run.keeper.publish(summary | {"findings": findings}, policy)


def _train(run: Run, lines: list[Line], progress: Progress) -> dict[str, str]:
    """The iterations after those in `lines`, to which theirs are added; returns the doctor's findings."""
    config, history, main = run.config, run.history, run.team.main
    progress.start(f"train {config.section}", config.iterations, len(lines))
    watched = [part.name for part in run.parts if not part.weight]
    with open_watch(
        history.out, config, history.made_by, done=len(lines), progress=progress, watched=watched, main=main
    ) as watch:
        if run.held.prompts[0] and not run.held.found:
            with memory_advice(_knobs(config)):
                run.measure(0)
        while len(lines) < config.iterations and not run.held.stops:
            with memory_advice(_knobs(config)):
                line, rollouts, total, values = run.iterate(len(lines))
                line = run.with_held_out(line)
            lines.append(line)
            if main:
                history.record(line)
                watch.iteration(line, rollouts, total, values)
            progress.advance(f"train {config.section}", "ok", **shown(line))
            ends = len(lines) == config.iterations or run.held.stops
            if len(lines) % config.checkpoint_every == 0 or ends:
                run.checkpoint(lines)
    if "stopped" in run.held.summary:
        progress.note(run.held.summary["stopped"])
    progress.finish(f"train {config.section}")
    return {finding.kind: finding.sentence for finding in watch.findings}


def _loaded(parts: Sequence[RewardPart], config: PPOConfig) -> str:
    """The models that a run has, for people."""
    models = ["the policy"]
    models += ["its reference"] if config.kl_coef else []
    models += ["the critic"] if find_algorithm(config).needs_critic else []
    models += ["the reward model"] if any(isinstance(part.source, str) for part in parts) else []
    return " and ".join(filter(None, (", ".join(models[:-1]), models[-1])))


def _knobs(config: PPOConfig) -> str:
    """What to lower where memory runs out."""
    at = f"train.{config.section}"
    return (
        f"{at}.microbatch_tokens, {at}.max_new_tokens or engine.gpu_memory, or set "
        f"{at}.gradient_checkpointing=true or {at}.lora_rank=16"
    )


@dataclass(frozen=True)
class _Given:
    """What a run is given to learn from and to measure on."""

    train: Rendered
    held_out: Rendered | None
    parts: Sequence[RewardPart]
    config: PPOConfig
    seed: int

    def divided(self, engine: Rollouter | Unopened | None, limit: int | None) -> tuple[Split, Split]:
        """The prompts to train on and those held out, in a context of `limit` tokens.

        Raises `UsageError` or `DataError` for prompts that the settings cannot be served with.
        """
        fits = fitting(*self.train, limit, self.config)
        kept, held = set_aside(fits, self.held_out, self.config, self.seed, limit)
        check_held_out(held, [part.name for part in self.parts], engine, self.config)
        check_mix(kept[0], self.config)
        return kept, held
