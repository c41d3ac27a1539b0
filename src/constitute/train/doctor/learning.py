"""Signs that learning goes astray: the reward and its watched parts, the value function and the updates."""

from __future__ import annotations

import math

from constitute.stats import mean
from constitute.train.common.agreement import WARNS, Gap, beyond, limits_of, push_in
from constitute.train.doctor.evidence import (
    LASTING,
    RECENT,
    SURE,
    Change,
    Evidence,
    Line,
    TrainingFinding,
    between,
    change,
    finding,
    point_error,
    series,
    width_of,
)

# Standard deviations of single rewards: a medium effect for a rise worth having, and less than a small one
# for none (J. Cohen, Statistical Power Analysis, 1988).
RISE, NO_RISE = 0.5, 0.2
# Share of the variance that a value function must explain some time: healthy ones pass 0.3 within a few
# iterations, and one that its clip range holds back creeps above 0.
EXPLAINED = 0.05
# Clip ranges between what the critic says and what comes: it needs as many batches to get there.
FAR = 10.0
# Share of tokens beyond the clip range; healthy runs stay below 0.1 (arXiv 1909.08593's: 0.003).
CLIPPED = 0.3
# |ratio - 1| of the first pass over a batch, which has nothing to differ by but the order of sums, in bf16
# where there are several minibatches; with the engine's log-probabilities also the engine's precision.
RATIO_OFF = {"one": 1e-4, "several": 0.02, "engine": 0.05}
# Times the limit: Adam makes up for gradients that are all scaled alike, less so where more than half is cut.
CUT = 2.0
# Share of the last iterations that ended their passes early.
STOPPED = 0.8


def _gained(run: Evidence, name: str, stderr_name: str) -> tuple[Change, float] | None:
    """Change of a mean of rewards, and the standard deviation of a single one; None where there is none."""
    values = series(run.lines, name)
    errors = series(run.lines, stderr_name)
    moved = change(values, errors)
    sizes = series(run.lines, "n")
    if moved is None or not sizes:
        return None
    one = (math.sqrt(mean([e**2 for e in errors])) if errors else point_error(values)) * math.sqrt(
        mean(sizes)
    )
    return (moved, one) if one > 0 else None


def reward_gamed(run: Evidence) -> list[TrainingFinding]:
    """The reward rises and a part that is measured alone falls, or stays."""
    gained = _gained(run, "reward", "reward_stderr")
    if gained is None or gained[0].z < SURE:
        return []
    found, (reward, one) = [], gained
    paid = f"the reward rose from {reward.before:.3f} to {reward.after:.3f} while {{}}"
    remedy = (
        "take an earlier policy (train.ppo.keep_policies), raise train.ppo.kl_coef, or give {} a weight in "
        "train.ppo.rewards"
    )
    for name in run.watched:
        watched = _gained(run, f"reward/{name}", f"reward_stderr/{name}")
        if watched is None:
            continue
        moved, single = watched
        figures = f"{moved.before:.3f} to {moved.after:.3f} (± {1.96 * moved.stderr:.3f})"
        if moved.z < -SURE:
            text = paid.format(f"{name}, which is watched, fell from {figures}: the reward is being gamed")
            found.append(finding(f"reward_gamed:{name}", "stop", text, remedy.format(name)))
        # Staying is claimed only where a rise worth seeing is ruled out, not where noise hides it.
        elif reward.rise > RISE * one and moved.rise + 1.96 * moved.stderr < NO_RISE * single:
            text = paid.format(f"{name}, which is watched, stayed: {figures}")
            found.append(finding(f"reward_unfollowed:{name}", "warning", text, remedy.format(name)))
    return found


def held_out_gamed(run: Evidence) -> list[TrainingFinding]:
    """On prompts that are not trained on, the reward rises and a part that is measured alone falls."""
    found = []
    for name in run.watched:
        gold = f"held_out/reward/{name}"
        lines = [line for line in run.lines if line.get(gold) is not None]
        if len(lines) < 2:
            continue
        best, last = max(lines, key=lambda line: float(line[gold])), lines[-1]
        fell = _held_out_change(best, last, gold)
        rose = _held_out_change(best, last, "held_out/reward")
        if fell.z < -SURE and rose.z > SURE:
            text = (
                f"on held-out prompts the reward rose from {rose.before:.3f} after iteration "
                f"{best['iteration']} to {rose.after:.3f} while {name}, which is watched, fell from "
                f"{fell.before:.3f} to {fell.after:.3f} (± {1.96 * fell.stderr:.3f}): the reward is gamed"
            )
            remedy = (
                f"set train.ppo.stop_on={name} to stop at its fall and take the best policy, or raise "
                "train.ppo.kl_coef"
            )
            found.append(finding(f"held_out_gamed:{name}", "stop", text, remedy))
    return found


def _held_out_change(before: Line, after: Line, name: str) -> Change:
    """The change of a mean between two measurements, taken as if of different prompts, which is cautious."""
    errors = [float(line[name.replace("held_out/", "held_out_stderr/", 1)]) for line in (before, after)]
    return Change(float(before[name]), float(after[name]), math.hypot(*errors), 1)


def reward_not_rising(run: Evidence) -> list[TrainingFinding]:
    """The reward falls from its best, or never rose."""
    values, errors = series(run.lines, "reward"), series(run.lines, "reward_stderr")
    gained = _gained(run, "reward", "reward_stderr")
    if gained is None:
        return []
    width, error = width_of(len(values)), point_error(values, errors)
    starts = range(len(values) - 2 * width + 1)
    best = max(starts, key=lambda start: mean(values[start : start + width]))
    moved = between(values[best : best + width], values[-width:], error)
    # The best of many windows is high by chance too, which one more standard error allows for.
    if moved.z < -(SURE + 1) and moved.rise < 0:
        text = (
            f"the reward fell from {moved.before:.3f} in iterations {best + 1}-{best + width} to "
            f"{moved.after:.3f} in the last {width}"
        )
        remedy = "lower train.ppo.learning_rate or train.ppo.epochs, or set train.ppo.target_kl"
        return [finding("reward_falling", "warning", text, remedy)]
    first, one = gained
    if len(values) >= 5 * LASTING and first.rise < NO_RISE * one and first.z < 2:
        text = (
            f"the reward has not risen in {len(values)} iterations: {first.before:.3f} to {first.after:.3f} "
            f"(± {1.96 * first.stderr:.3f})"
        )
        remedy = "raise train.ppo.learning_rate or train.ppo.batch_size, or lower train.ppo.kl_coef"
        return [finding("reward_flat", "note", text, remedy)]
    return []


def reward_constant(run: Evidence) -> list[TrainingFinding]:
    """All responses are worth the same, so nothing can be learned."""
    errors, rewards = run.last("reward_stderr", RECENT), run.last("reward", RECENT)
    if not errors or not rewards or mean(run.last("n", RECENT) or [1.0]) < 2:
        return []
    if any(error > 1e-6 * max(1.0, abs(reward)) for error, reward in zip(errors, rewards, strict=True)):
        return []
    text = f"every response of the last {RECENT} iterations has the same reward, {rewards[-1]:.3f}"
    remedy = "check the sources in train.ppo.rewards on a few completions of OUT/samples.jsonl"
    return [finding("reward_constant", "stop", text, remedy)]


def critic_useless(run: Evidence) -> list[TrainingFinding]:
    """The value function is hardly better than a constant, or far from what it should say."""
    for limit, lasting in ((0.0, LASTING), (EXPLAINED, 2 * LASTING)):
        values = run.last("explained_variance", lasting)
        if values and max(values) <= limit:
            break
    else:
        return []
    text = (
        f"the value function explains nothing: explained variance {mean(values):.2f} on average, "
        f"never above {limit:g} in {lasting} iterations"
    )
    remedy = (
        "raise train.ppo.critic_learning_rate (or train.ppo.value_coef with the shared critic), or set "
        "train.ppo.advantage=rloo"
    )
    expected, returned = run.last("value_mean", RECENT), run.last("return_mean", RECENT)
    if expected and returned and abs(mean(returned) - mean(expected)) > FAR * run.config.value_clip:
        text += (
            f"; it expects {mean(expected):.3g} where responses return {mean(returned):.3g}, and "
            f"train.ppo.value_clip lets it move by {run.config.value_clip:g} a batch"
        )
        remedy = (
            "bring the rewards to a deviation near 1 (train.ppo.score_norm=running), or raise "
            "train.ppo.value_clip"
        )
    return [finding("critic_useless", "warning", text, remedy)]


def clip_fraction_high(run: Evidence) -> list[TrainingFinding]:
    """Many tokens leave the clip range."""
    values = run.last("clip_fraction", RECENT)
    if not values or mean(values) < CLIPPED:
        return []
    text = f"{100 * mean(values):.0f} % of tokens left the clip range over the last {RECENT} iterations"
    remedy = "lower train.ppo.learning_rate or train.ppo.epochs, or set train.ppo.target_kl"
    return [finding("clip_fraction_high", "warning", text, remedy)]


def ratio_off(run: Evidence) -> list[TrainingFinding]:
    """The policy differs from itself before any update."""
    config, values = run.config, sorted(run.last("first_ratio_error", RECENT))
    how = "engine" if config.old_logprobs == "engine" else "one" if config.minibatches == 1 else "several"
    if not values or values[RECENT // 2] <= RATIO_OFF[how]:
        return []
    text = (
        f"before any update the probability ratio is already off by {values[RECENT // 2]:.2g} per token "
        f"(rounding gives {RATIO_OFF[how]:g} at most)"
    )
    remedy = (
        "set train.ppo.old_logprobs=trainer"
        if how == "engine"
        else "set train.ppo.gradient_checkpointing=false and see that the policy has no dropout"
    )
    return [finding("ratio_off", "warning", text, remedy)]


def gradients_clipped(run: Evidence) -> list[TrainingFinding]:
    """Gradients are clipped in every iteration."""
    limit, found = run.config.max_grad_norm, []
    for half, rate in (("actor", "learning_rate"), ("critic", "critic_learning_rate")):
        values = run.last(f"grad_norm_{half}", 2 * LASTING)
        if values and min(values) > CUT * limit:
            text = (
                f"the {half}'s gradients were clipped in each of the last {2 * LASTING} iterations: norm "
                f"{min(values):.3g} to {max(values):.3g}, limit {limit:g}"
            )
            remedy = f"raise train.ppo.max_grad_norm, or lower train.ppo.{rate} if the run is unsteady"
            found.append(finding(f"gradients_clipped:{half}", "note", text, remedy))
    return found


def sync_gap_wide(run: Evidence) -> list[TrainingFinding]:
    """Engine and trainer are near the limit of what they may differ by."""
    pushes = [push for push in map(push_in, run.lines[-RECENT:]) if push is not None]
    if len(pushes) < RECENT:
        return []
    worst = Gap(*(max(getattr(push.gap, name) for push in pushes) for name in ("mean", "p95", "max")))
    limits = limits_of(pushes[-1].dtype, run.config.sync_gap_limit)
    wide = beyond(worst, limits, WARNS)
    if not wide:
        return []
    text = (
        f"engine and trainer differ in nats per token by up to {wide} over the last {RECENT} iterations "
        f"({1 / WARNS:g} times as much stops the run)"
    )
    remedy = "run the engine in the trainer's precision (engine.dtype), or set train.ppo.importance_cap=2"
    return [finding("sync_gap_wide", "warning", text, remedy)]


def early_stops(run: Evidence) -> list[TrainingFinding]:
    """Most iterations end their passes early."""
    stops, updates = run.last("stopped_early", LASTING), run.last("updates", LASTING)
    if not stops or mean(stops) < STOPPED:
        return []
    whole = run.config.epochs * run.config.minibatches
    text = (
        f"{sum(stops):.0f} of the last {LASTING} iterations stopped early, "
        f"after {mean(updates or [0.0]):.1f} of {whole} updates"
    )
    remedy = "lower train.ppo.learning_rate or train.ppo.epochs, or raise train.ppo.target_kl"
    return [finding("early_stops", "note", text, remedy)]
