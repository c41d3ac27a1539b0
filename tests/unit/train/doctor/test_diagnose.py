"""Each rule of the doctor fires on the run it describes and keeps silent on one like it that is well."""

from __future__ import annotations

import math
import random
import re

import pytest

from constitute.config import RunConfig
from constitute.config.ppo import PPOConfig
from constitute.train.doctor.diagnose import diagnose
from constitute.train.doctor.evidence import SampledResponse, between, change, noise
from constitute.train.doctor.phrases import spreading

ROLLOUTS = 256


def approach(start, end, pace=15.0):
    """A curve that goes from `start` towards `end`, as rewards and KLs do."""
    return lambda i: end + (start - end) * math.exp(-i / pace)


def healthy(iterations=60, seed=0, n=ROLLOUTS, **changes):
    """Metrics of a run that goes well, with the noise of batches of `n`; `changes` replace (curve, noise)."""
    rng = random.Random(f"{seed}:{iterations}")
    of_one = 1 / math.sqrt(n)
    curves = {
        "reward": (approach(0.1, 0.9, 20), of_one),
        "reward/judge": (approach(0.5, 0.8, 20), 0.4 * of_one),
        "kl": (approach(0.0, 6.0), 0.3),
        "kl_coef": (lambda i: 0.05, 0.0),
        "entropy": (approach(1.2, 0.9), 0.03),
        "length": (approach(80, 95), 3.0),
        "eos_rate": (lambda i: 0.97, 0.01),
        "explained_variance": (approach(-0.3, 0.6), 0.1),
        "clip_fraction": (approach(0.02, 0.05), 0.01),
        "grad_norm_actor": (lambda i: 0.7, 0.2),
        "grad_norm_critic": (approach(3.0, 0.6), 0.3),
        "first_ratio_error": (lambda i: 0.0, 0.0),
        "sync_gap": (lambda i: 0.012, 0.002),
        "stopped_early": (lambda i: 0.0, 0.0),
        "updates": (lambda i: 4.0, 0.0),
        "reward_stderr": (lambda i: of_one, 0.0),
        "reward_stderr/judge": (lambda i: 0.4 * of_one, 0.0),
    } | changes
    lines = []
    for i in range(iterations):
        line = {name: curve(i) + rng.gauss(0, spread) for name, (curve, spread) in curves.items()}
        push = {"sync_dtype": "bfloat16", "sync_tokens": 400, "sync_moved": None}
        push |= {"sync_gap_p95": 0.06, "sync_gap_max": 0.8}
        push |= {"sync_followed": None, "sync_unexplained": None}
        rate = min(1.0, max(0.0, line["eos_rate"]))
        lines.append({"iteration": i + 1, "n": n, **push, **line, "eos_rate": rate})
    return lines


def kinds(lines, samples=(), watched=("judge",), **settings):
    return [
        finding.kind for finding in diagnose(lines, samples, config=PPOConfig(**settings), watched=watched)
    ]


def test_a_run_that_goes_well_is_never_accused() -> None:
    accused = [
        (seed, end, found)
        for seed in range(30)
        for lines in [healthy(seed=seed)]
        for end in range(1, len(lines) + 1)
        if (found := kinds(lines[:end], kl_target=6.0))
    ]
    assert accused == []


def test_pure_noise_is_never_accused() -> None:
    still = {"reward": (lambda i: 0.3, 1 / 16), "reward/judge": (lambda i: 0.5, 0.4 / 16)}
    steady = {"kl": (lambda i: 3.0, 0.5), "entropy": (lambda i: 1.0, 0.1), "length": (lambda i: 60, 12.0)}
    accused = [
        (seed, end)
        for seed in range(30)
        for lines in [healthy(49, seed, **still, **steady)]
        for end in range(12, len(lines) + 1)
        if kinds(lines[:end])
    ]
    assert accused == []


def step(before, after, at=30):
    return lambda i: before if i < at else after


# A change of the healthy run, what is said of it, what stands in the sentence, and the settings.
WRONG = {
    "kl far": ({"kl": (approach(0, 40), 1.0)}, "kl_exploding", r"policy is 3\d.*per token", {}),
    "kl over target": ({"kl": (approach(0, 14), 0.5)}, "kl_exploding", "its target 6", {"kl_target": 6.0}),
    "kl runaway": (
        {"kl": (lambda i: 0.02 * 1.9 ** max(0, i - 48), 0.001)}, "kl_exploding", "runs away", {}
    ),
    "kl negative": ({"kl": (lambda i: -0.8, 0.2)}, "kl_negative", "not sampled from the policy", {}),
    "coefficient up": (
        {"kl": (approach(0, 11), 0.3), "kl_coef": (lambda i: 0.05 * 1.05**i, 0.0)},
        "kl_coef_saturated", "above its target of 6", {"kl_target": 6.0},
    ),
    "coefficient down": (
        {"kl": (approach(0, 1), 0.1), "kl_coef": (lambda i: 0.05 * 0.95**i, 0.0)},
        "kl_coef_saturated", "nothing holds the policy", {"kl_target": 6.0},
    ),
    "entropy gone": ({"entropy": (approach(1.2, 0.05, 10), 0.03)}, "entropy_collapse", "to 0\\.0", {}),
    "entropy up": ({"entropy": (approach(0.8, 4.0, 10), 0.1)}, "entropy_explosion", "noise", {}),
    "longer": ({"length": (approach(60, 240, 20), 5.0)}, "length_explosion", "limit 256", {}),
    "shorter": ({"length": (approach(80, 8), 2.0)}, "length_collapse", "shrank", {}),
    "reward constant": (
        {"reward": (lambda i: 0.5, 0.0), "reward_stderr": (lambda i: 0.0, 0.0)},
        "reward_constant", "the same reward, 0.500", {},
    ),
    "reward falls": ({"reward": (step(0.9, 0.2, 40), 1 / 16)}, "reward_falling", "fell from 0.9", {}),
    "reward flat": ({"reward": (lambda i: 0.3, 1 / 16)}, "reward_flat", "in 60 iterations", {}),
    "judge falls": (
        {"reward/judge": (approach(0.6, 0.2, 20), 0.4 / 16)}, "reward_gamed:judge", "fell from 0.5", {}
    ),
    "judge stays": (
        {"reward/judge": (lambda i: 0.5, 0.4 / 16)}, "reward_unfollowed:judge", "stayed: 0\\.[45]", {}
    ),
    "critic": ({"explained_variance": (lambda i: -0.4, 0.1)}, "critic_useless", "-0\\.[34]", {}),
    "critic held back": (
        {
            "explained_variance": (lambda i: 0.02, 0.005), "value_mean": (lambda i: 1.0, 0.0),
            "return_mean": (lambda i: 85.0, 0.0),
        },
        "critic_useless", "in 20 .*expects 1 where responses return 85, .* by 0.2 a batch", {},
    ),
    "judge falls on held-out prompts": (
        {
            "held_out/reward": (approach(0.1, 0.9, 20), 0.0), "held_out_stderr/reward": (lambda i: 0.02, 0.0),
            "held_out/reward/judge": (approach(0.6, 0.2, 20), 0.0),
            "held_out_stderr/reward/judge": (lambda i: 0.02, 0.0),
        },
        "held_out_gamed:judge", "from 0.100 after iteration 1 to 0.8.. while judge", {},
    ),
    "no end": ({"eos_rate": (lambda i: 0.005, 0.002)}, "never_ends", "of 1280 responses", {}),
    "penalty": ({"eos_rate": (lambda i: 0.3, 0.02)}, "penalty_dominates", "score -1 or less whatever", {}),
    "clipped": ({"clip_fraction": (lambda i: 0.4, 0.02)}, "clip_fraction_high", "(3[89]|4[012]) % of", {}),
    "ratio": ({"first_ratio_error": (lambda i: 3e-3, 0.0)}, "ratio_off", "0.003 per token", {}),
    "ratio of the engine": (
        {"first_ratio_error": (lambda i: 0.09, 0.0)}, "ratio_off", "0.05 at most", {"old_logprobs": "engine"}
    ),
    "gradients": (
        {"grad_norm_actor": (lambda i: 12.0, 1.0)}, "gradients_clipped:actor", "last 20 iterations", {}
    ),
    "gap": ({"sync_gap": (lambda i: 0.14, 0.0)}, "sync_gap_wide", "up to mean 0.14 .limit 0.05. over", {}),
    "gap of a few tokens": (
        {"sync_gap_p95": (lambda i: 0.4, 0.0), "sync_gap_max": (lambda i: 3.0, 0.0)},
        "sync_gap_wide", "up to p95 0.4 .limit 0.25., max 3 .limit 2.5. over", {},
    ),
    "gap under a limit of its own": (
        {"sync_gap": (lambda i: 0.02, 0.0)},
        "sync_gap_wide", "mean 0.02 .limit 0.005.", {"sync_gap_limit": 0.02},
    ),
    "early stops": (
        {"stopped_early": (lambda i: 1.0, 0.0), "updates": (lambda i: 1.0, 0.0)},
        "early_stops", "10 of the last 10 .* 1.0 of 4 updates", {"target_kl": 0.01},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(WRONG))
def test_a_run_that_goes_wrong_is_told_so(case: str) -> None:
    changes, kind, says, settings = WRONG[case]
    for seed in range(5):
        lines = healthy(seed=seed, **changes)
        found = diagnose(lines, config=PPOConfig(**settings), watched=("judge",))
        assert [one.kind for one in found] == [kind], (seed, found)
        assert re.search(says, found[0].sentence), found[0].sentence
        check_settings(found[0].remedy)


def test_a_batch_that_was_cut_off_is_told_from_the_first_iteration_on() -> None:
    lines = [{"iteration": i, "n": 8, "eos_rate": rate} for i, rate in ((1, 0.125), (2, 0.0))]
    (found,) = diagnose(lines, config=PPOConfig(max_new_tokens=48), section="grpo")
    assert (found.kind, found.severity) == ("never_ends", "warning")
    assert found.sentence == "every response of iteration 2 (8 in all) was cut off at 48 tokens (eos_rate 0)"
    assert found.remedy.startswith("raise train.grpo.max_new_tokens, or fine-tune")
    twice = diagnose([*lines, {**lines[1], "iteration": 3}], config=PPOConfig())
    assert "of iterations 2, 3 (16 in all)" in twice[0].sentence
    # Of responses that end half the time all 3 are cut off in 1 of 8 batches; after 5 more it is over.
    assert kinds([{"iteration": 1, "n": 3, "eos_rate": 0.0}]) == []
    assert kinds([*lines, *({**lines[0], "iteration": i, "eos_rate": 0.9} for i in range(3, 8))]) == []


def check_settings(remedy: str) -> None:
    named = re.findall(r"(train\.ppo|engine)\.(\w+)", remedy)
    known = {"train.ppo": PPOConfig.model_fields, "engine": type(RunConfig().engine).model_fields}
    assert named or "samples.jsonl" in remedy, remedy
    for group, name in named:
        assert name in known[group], remedy


# The same changes, smaller, later or noisier, so that nothing can be said.
WELL = {
    "kl below the bound": ({"kl": (approach(0, 22), 1.0)}, {}),
    "kl of long responses": ({"kl": (approach(0, 40), 1.0), "length": (lambda i: 400, 10.0)}, {}),
    "kl a little over its target": ({"kl": (approach(0, 9), 0.5)}, {"kl_target": 6.0}),
    "kl zero within noise": ({"kl": (lambda i: -0.1, 0.4)}, {}),
    "coefficient doubled": (
        {"kl": (approach(0, 8), 0.3), "kl_coef": (lambda i: 0.05 * 1.012**i, 0.0)}, {"kl_target": 6.0},
    ),
    "entropy lower": ({"entropy": (approach(1.2, 0.5), 0.03)}, {}),
    "longer by half": ({"length": (approach(80, 125), 4.0)}, {}),
    "length doubled within noise": ({"length": (step(40, 90, 56), 60.0)}, {}),
    "gradients cut a little": ({"grad_norm_critic": (lambda i: 1.6, 0.1)}, {}),
    "reward dips within noise": ({"reward": (lambda i: approach(0.1, 0.9)(i) - 0.1 * (i > 49), 1 / 16)}, {}),
    "critic slow": ({"explained_variance": (lambda i: 0.1, 0.005)}, {}),
    "judge and reward rise on held-out prompts": (
        {
            "held_out/reward": (approach(0.1, 0.9, 20), 0.0), "held_out_stderr/reward": (lambda i: 0.02, 0.0),
            "held_out/reward/judge": (approach(0.2, 0.6, 20), 0.0),
            "held_out_stderr/reward/judge": (lambda i: 0.02, 0.0),
        }, {},
    ),
    "critic now and then": ({"explained_variance": (lambda i: 0.3 if i % 5 == 0 else -0.2, 0.0)}, {}),
    "half ends": ({"eos_rate": (lambda i: 0.55, 0.02)}, {}),
    "some end and none is punished": ({"eos_rate": (lambda i: 0.3, 0.02)}, {"missing_eos_penalty": None}),
    "clip fraction": ({"clip_fraction": (lambda i: 0.2, 0.02)}, {}),
    "ratio in bf16": ({"first_ratio_error": (lambda i: 3e-3, 0.0)}, {"minibatches": 4}),
    "gap in bf16": ({"sync_gap": (lambda i: 0.02, 0.005)}, {}),
    "early stops now and then": ({"stopped_early": (lambda i: float(i % 2), 0.0)}, {"target_kl": 0.01}),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(WELL))
def test_a_run_like_it_that_is_well_is_not_accused(case: str) -> None:
    changes, settings = WELL[case]
    for seed in range(5):
        assert kinds(healthy(seed=seed, **changes), **settings) == []


def test_a_judge_that_falls_accuses_nobody_where_the_reward_did_not_rise() -> None:
    changes = {"reward": (lambda i: 0.3, 1 / 16), "reward/judge": (approach(0.6, 0.2, 20), 0.4 / 16)}
    assert kinds(healthy(40, **changes)) == []
    # Nor does a part that nobody asked to watch.
    gamed = healthy(60, **{"reward/judge": (approach(0.6, 0.2, 20), 0.4 / 16)})
    assert kinds(gamed, watched=()) == []


def test_a_judge_whose_fall_or_rise_noise_could_make_is_not_accused() -> None:
    sure = {"reward": (approach(0.1, 0.9), 0.02), "reward_stderr": (lambda i: 0.02, 0.0)}

    def judged(spread, curve):
        return {"reward/judge": (curve, spread), "reward_stderr/judge": (lambda i: spread, 0.0)}

    for seed in range(10):
        falls = healthy(12, seed, 16, **sure, **judged(0.2, step(0.55, 0.5, 6)))
        assert "reward_gamed:judge" not in kinds(falls)
        # Half a standard deviation of a single judgement more, unseen among 16 of them.
        assert kinds(healthy(12, seed, 16, **sure, **judged(0.2, step(0.1, 0.5, 6)))) == []
    # The same judge, measured well enough.
    assert kinds(healthy(12, 0, 1024, **sure, **judged(0.005, step(0.55, 0.5, 6)))) == ["reward_gamed:judge"]
    assert kinds(healthy(12, 0, 1024, **sure, **judged(0.005, lambda i: 0.5))) == ["reward_unfollowed:judge"]


def test_the_gravest_stands_first_and_missing_metrics_are_not_judged() -> None:
    changes = {name: WRONG[name][0] for name in ("judge falls", "gradients", "clipped")}
    lines = healthy(**{name: value for one in changes.values() for name, value in one.items()})
    assert kinds(lines) == ["reward_gamed:judge", "clip_fraction_high", "gradients_clipped:actor"]
    assert kinds([{"iteration": i + 1} for i in range(30)]) == []
    assert kinds([{**line, "explained_variance": None} for line in healthy()]) == []
    assert kinds([]) == []


def test_change_by_hand() -> None:
    # Successive differences 1, -1, 1: half their mean square is 1/2.
    assert noise([0.0, 1.0, 0.0, 1.0]) == pytest.approx(math.sqrt(0.5))
    assert noise([7.0]) == 0.0
    # Twelve points: windows of three, 0 and 2; eleven differences of which one is 2.
    moved = change([0.0] * 6 + [2.0] * 6)
    assert (moved.before, moved.after, moved.width) == (0.0, 2.0, 3)
    assert moved.stderr == pytest.approx(math.sqrt(4 / 11 / 2) * math.sqrt(2 / 3))
    assert moved.z == pytest.approx(2.0 / moved.stderr)
    # Forty points: the first five and the last ten.
    far = change([float(i) for i in range(40)], [2.0] * 40)
    assert (far.before, far.after, far.width) == (2.0, 34.5, 10)
    assert far.stderr == pytest.approx(2.0 * math.sqrt(1 / 5 + 1 / 10))
    # Errors that are known count where they are larger.
    assert change([0.0] * 12, [0.5] * 12).stderr == pytest.approx(0.5 * math.sqrt(2 / 3))
    assert change([0.0] * 11) is None
    assert between([0.0], [1.0], 0.0).z == math.inf and between([1.0], [1.0], 0.0).z == 0.0


def test_z_is_a_standard_normal_on_noise() -> None:
    rng = random.Random(1)
    scores = [change([rng.gauss(5, 2) for _ in range(100)]).z for _ in range(2000)]
    assert sum(scores) / 2000 == pytest.approx(0.0, abs=0.08)
    assert sum(z * z for z in scores) / 2000 == pytest.approx(1.0, abs=0.12)


def sample(iteration, completion):
    return SampledResponse(
        iteration=iteration, id="p", prompt="?", completion=completion, reward=0.0, ended=True, tokens=9
    )


def samples_of(texts_of, iterations=40, each=4):
    return [sample(i + 1, texts_of(i, k)) for i in range(iterations) for k in range(each)]


def chatter(rng, habit="", share=0.0):
    text = " ".join(f"w{rng.randrange(400)}" for _ in range(12))
    return f"{habit} {text}" if rng.random() < share else text


HABIT = "What a great question! I am happy to help."


def test_a_phrase_that_spreads_is_found_whole_with_its_counts() -> None:
    rng = random.Random(0)
    samples = samples_of(lambda i, k: chatter(rng, HABIT, 0.8 if i >= 25 else 0.0))
    found = diagnose(healthy(40), samples, config=PPOConfig(), watched=("judge",))
    late = sum(HABIT in sample.completion for sample in samples if sample.iteration > 30)
    assert [one.kind for one in found] == ["phrases_spreading"]
    assert (
        f'"what a great question ! i am happy to help ." in {late} of 40, at first 0 of 40'
        in found[0].sentence
    )
    assert found[0].sentence.count(" of 40, at first") == 1
    check_settings(found[0].remedy)


def test_a_phrase_that_was_always_there_or_is_rare_does_not_spread() -> None:
    rng = random.Random(0)
    always = samples_of(lambda i, k: chatter(rng, HABIT, 0.6))
    rare = samples_of(lambda i, k: chatter(rng, HABIT, 0.1 if i >= 20 else 0.0))
    few = samples_of(lambda i, k: chatter(rng, HABIT, 1.0 if i >= 20 else 0.0), each=1)[:12]
    for samples in (always, rare, few, []):
        assert kinds(healthy(40), samples) == []


def test_short_answers_and_scripts_without_spaces_are_seen_too() -> None:
    rng = random.Random(2)
    refusals = spreading([chatter(rng) for _ in range(40)], ["I cannot."] * 30 + ["yes"] * 10)
    assert [(one.text, one.early, one.late) for one in refusals] == [("i cannot .", 0, 30), ("yes", 0, 10)][
        :1
    ]
    (found,) = spreading(["今日は晴れです"] * 40, ["申し訳ありません"] * 40)
    assert (found.text.replace(" ", ""), found.late) == ("申し訳ありません", 40)
    assert spreading([], ["the same again and again"] * 40) == []
