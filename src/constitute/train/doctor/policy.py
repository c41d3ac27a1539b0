"""Signs that a policy goes astray: its KL, entropy, length, ends and turns of phrase."""

from __future__ import annotations

import math

from constitute.stats import mean, wilson
from constitute.train.doctor.evidence import (
    LASTING,
    RECENT,
    SURE,
    Evidence,
    TrainingFinding,
    change,
    finding,
    point_error,
    series,
)
from constitute.train.doctor.phrases import spreading

# Nats a response (arXiv 2009.01325, figure 5: people like summaries less somewhere beyond 10 and well before
# 100), and nats a token, since a long response holds more at the same quality.
KL_FAR, KL_FAR_PER_TOKEN = 25.0, 0.2
# The controller moves by a fifth at most (arXiv 1909.08593, section 2.2), and ends within a fifth of it.
KL_OVER_TARGET, KL_OFF_TARGET = 2.0, 1.2
# Growth of the KL from three iterations to the next three that no constant rate of learning gives.
KL_RUNAWAY, KL_RUNAWAY_FROM = 3.0, 10.0
# Times its start: arXiv 1909.08593 needed about 2.
COEF_SATURATED = 10.0
# Nats a response below zero: the sampled estimate of a KL, on average, is not.
KL_NEGATIVE = -0.05
# Of the entropy at the start; arXiv 1909.08593's runs kept more than four fifths.
ENTROPY_GONE, ENTROPY_GREW = 0.25, 2.0
# Times the length at the start; arXiv 2310.03716 finds most of a reward's gain in length before that.
LENGTH_GREW, LENGTH_SHRANK = 2.0, 0.5
# Share of responses with an end below which nothing else can be learned, and of scores that are the penalty.
NO_END, PENALISED = 0.05, 0.5
# Share of responses with an end that a batch without any has to rule out, at 95 %: 4 responses do.
FEW_END = 0.5
# Completions read from each end of a run: enough to tell 20 % from 10 %, few enough for every iteration.
MOST_READ = 400


def kl_exploding(run: Evidence) -> list[TrainingFinding]:
    """The policy is far from the reference, above its target, or running away."""
    values = run.last("kl", RECENT)
    if not values:
        return []
    kl, error = mean(values), point_error(values) / math.sqrt(RECENT)
    every = series(run.lines, "kl")
    before, after = mean(every[-6:-3]), mean(every[-3:])
    tokens = run.last("length", RECENT)
    per_token = kl / mean(tokens) if tokens else math.inf
    target = run.config.kl_target
    remedy = "raise train.ppo.kl_coef, set train.ppo.kl_target, or lower train.ppo.learning_rate"
    if after > KL_RUNAWAY_FROM and after > KL_RUNAWAY * before:
        text = f"the KL from the reference runs away: {before:.3g} to {after:.3g} nats in 3 iterations"
        return [finding("kl_exploding", "stop", text, remedy)]
    if target is not None and kl - 2 * error > KL_OVER_TARGET * target:
        text = (
            f"the KL is {kl:.3g} nats per response over the last {RECENT} iterations, its target {target:g}"
        )
        remedy = (
            "raise train.ppo.kl_coef to start from, or lower train.ppo.kl_horizon or train.ppo.learning_rate"
        )
        return [finding("kl_exploding", "warning", text, remedy)]
    if target is None and kl - 2 * error > KL_FAR and per_token > KL_FAR_PER_TOKEN:
        text = (
            f"the policy is {kl:.3g} nats per response ({per_token:.2f} per token) from the reference, where "
            "more reward seldom means better answers"
        )
        return [finding("kl_exploding", "warning", text, remedy)]
    return []


def kl_negative(run: Evidence) -> list[TrainingFinding]:
    """The sampled KL is below zero by more than chance."""
    values = run.last("kl", LASTING)
    if not values:
        return []
    kl, error = mean(values), point_error(values) / math.sqrt(LASTING)
    if kl >= KL_NEGATIVE or kl + SURE * error >= 0:
        return []
    text = (
        f"the KL from the reference is {kl:.3g} ± {error:.2g} nats per response over {LASTING} iterations; "
        "below zero, the responses were not sampled from the policy"
    )
    remedy = "check that the engine samples at train.ppo.temperature without top-k, top-p or stop texts"
    return [finding("kl_negative", "warning", text, remedy)]


def kl_coef_saturated(run: Evidence) -> list[TrainingFinding]:
    """The controller of the KL coefficient no longer reaches its target."""
    target, coefs, values = run.config.kl_target, series(run.lines, "kl_coef"), run.last("kl", RECENT)
    if target is None or not coefs or not values or coefs[0] <= 0:
        return []
    kl, times = mean(values), coefs[-1] / coefs[0]
    moved = (
        f"the KL coefficient went from {coefs[0]:.3g} to {coefs[-1]:.3g} and the KL is still {kl:.3g} nats"
    )
    if times >= COEF_SATURATED and kl > KL_OFF_TARGET * target:
        remedy = f"lower train.ppo.learning_rate, or start train.ppo.kl_coef at {coefs[-1]:.2g}"
        return [finding("kl_coef_saturated", "warning", f"{moved}, above its target of {target:g}", remedy)]
    if times <= 1 / COEF_SATURATED and kl * KL_OFF_TARGET < target:
        remedy = "lower train.ppo.kl_target, or raise train.ppo.learning_rate if the reward does not rise"
        text = f"{moved}, below its target of {target:g}: nothing holds the policy any more"
        return [finding("kl_coef_saturated", "note", text, remedy)]
    return []


def entropy_moved(run: Evidence) -> list[TrainingFinding]:
    """The policy becomes deterministic, or noise."""
    moved = change(series(run.lines, "entropy"))
    if moved is None or abs(moved.z) < SURE or moved.before <= 0:
        return []
    figures = f"{moved.before:.3g} to {moved.after:.3g} nats per token"
    if moved.after < ENTROPY_GONE * moved.before:
        text = f"the policy's entropy fell from {figures}: its responses are becoming the same"
        remedy = "raise train.ppo.kl_coef, or take an earlier policy (train.ppo.keep_policies)"
        return [finding("entropy_collapse", "warning", text, remedy)]
    if moved.after > ENTROPY_GREW * moved.before:
        text = f"the policy's entropy rose from {figures}: its responses are becoming noise"
        remedy = "lower train.ppo.learning_rate, or raise train.ppo.kl_coef"
        return [finding("entropy_explosion", "warning", text, remedy)]
    return []


def length_moved(run: Evidence) -> list[TrainingFinding]:
    """Responses doubled in length, or halved."""
    moved = change(series(run.lines, "length"))
    if moved is None or abs(moved.z) < SURE:
        return []
    figures = f"from {moved.before:.3g} to {moved.after:.3g} tokens (limit {run.config.max_new_tokens})"
    if moved.after > LENGTH_GREW * moved.before:
        text = f"responses grew {figures}; the reward may pay for length"
        remedy = "add a part to train.ppo.rewards that takes off for length, or raise train.ppo.kl_coef"
        return [finding("length_explosion", "warning", text, remedy)]
    if moved.after < LENGTH_SHRANK * moved.before:
        text = f"responses shrank {figures}; the reward may pay for saying nothing"
        remedy = "read OUT/samples.jsonl, and raise train.ppo.kl_coef"
        return [finding("length_collapse", "warning", text, remedy)]
    return []


def never_ends(run: Evidence) -> list[TrainingFinding]:
    """Hardly any response ends, most scores are the penalty for that, or a whole batch was cut off."""
    remedy = (
        "raise train.ppo.max_new_tokens, or fine-tune the policy on answers that end (`constitute train sft`)"
    )
    return _seldom_ends(run, remedy) or _batch_cut_off(run, remedy)


def _batch_cut_off(run: Evidence, remedy: str) -> list[TrainingFinding]:
    """Every response of a recent iteration was cut off; seen from the first iteration on."""
    cut = [
        line
        for line in run.lines[-RECENT:]
        if line.get("eos_rate") == 0 and wilson(0, line.get("n") or 0)[1] < FEW_END
    ]
    if not cut:
        return []
    where = "iteration" if len(cut) == 1 else "iterations"
    numbers = ", ".join(str(line["iteration"]) for line in cut)
    text = (
        f"every response of {where} {numbers} ({sum(line['n'] for line in cut)} in all) was cut off at "
        f"{run.config.max_new_tokens} tokens (eos_rate 0)"
    )
    return [finding("never_ends", "warning", text, remedy)]


def _seldom_ends(run: Evidence, remedy: str) -> list[TrainingFinding]:
    rates, sizes = run.last("eos_rate", RECENT), run.last("n", RECENT)
    if not rates or not sizes:
        return []
    n = round(sum(sizes))
    ended = round(sum(rate * size for rate, size in zip(rates, sizes, strict=True)))
    high = wilson(ended, n)[1]
    counted = f"{n - ended} of {n} responses of the last {RECENT} iterations were cut off at "
    counted += f"{run.config.max_new_tokens} tokens"
    if high < NO_END:
        return [finding("never_ends", "warning", f"{counted}: hardly any ends by itself", remedy)]
    if run.config.missing_eos_penalty is not None and 1 - high > PENALISED:
        text = f"{counted} and score {-run.config.missing_eos_penalty:g} or less whatever they say"
        remedy += ", or set train.ppo.missing_eos_penalty=null"
        return [finding("penalty_dominates", "warning", text, remedy)]
    return []


def phrases_spreading(run: Evidence) -> list[TrainingFinding]:
    """Some phrases spread over the sampled completions."""
    quarter = len(run.lines) // 4
    early = [sample.completion for sample in run.samples if sample.iteration <= quarter]
    late = [sample.completion for sample in run.samples if sample.iteration > len(run.lines) - quarter]
    found = spreading(early[:MOST_READ], late[-MOST_READ:])
    if not found:
        return []
    listed = "; ".join(
        f'"{phrase.text}" in {phrase.late} of {phrase.n_late}, at first {phrase.early} of {phrase.n_early}'
        for phrase in found
    )
    remedy = "read OUT/samples.jsonl, then raise train.ppo.kl_coef or add a part to train.ppo.rewards"
    return [finding("phrases_spreading", "warning", f"phrases spread over the completions: {listed}", remedy)]
