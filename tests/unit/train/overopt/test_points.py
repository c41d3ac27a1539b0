"""The best-of-n estimator, the fitted curves and the advice, against enumeration and hand-worked values."""

import json
import math
import random
import re
from itertools import combinations, permutations

import pytest
from click.testing import CliRunner

from constitute.cli.train.overopt import overopt
from constitute.errors import DataError, UsageError
from constitute.report.overopt import page_of, render_overopt
from constitute.train.best_of_n.choice import best_of_n_kl, sizes
from constitute.train.overopt.fit import Fit, fit_gold, gold_at
from constitute.train.overopt.points import (
    Observation,
    Point,
    Scored,
    advise,
    best_of_n_points,
    best_of_n_rewards,
    doubts,
    normal,
    pooled,
)
from constitute.train.overopt.read import policies_by_step
from constitute.train.overopt.run import measure_overopt

PAIRS = [(0.3, 5.0), (-1.0, 2.0), (0.9, -4.0), (0.3, 1.0), (2.0, 0.5), (-1.0, 7.0), (0.3, 3.0)]
SAMPLES = [Scored(*pair) for pair in PAIRS]
# Reward of a response of the task in test_train_gibbs.py: how often each count of ones comes up.
LAW = {0: 14 / 27, 1: 8 / 27, 2: 4 / 27, 3: 1 / 27}
BEST_OF_N = {1: 0.703704, 2: 1.139918, 4: 1.627039, 8: 2.061080, 16: 2.415515}


def brute_force(samples, n):
    """Mean over all subsets of n of the best by proxy, ties shared."""
    subsets = list(combinations(samples, n))
    proxy = gold = 0.0
    for subset in subsets:
        top = max(one.proxy for one in subset)
        tied = [one.gold for one in subset if one.proxy == top]
        proxy += top / len(subsets)
        gold += sum(tied) / len(tied) / len(subsets)
    return proxy, gold


@pytest.mark.parametrize("n", range(1, 8))
def test_estimator_is_the_mean_over_all_subsets(n):
    assert best_of_n_rewards(SAMPLES, n) == pytest.approx(brute_force(SAMPLES, n), abs=1e-12)


def test_estimator_does_not_see_the_order():
    found = {best_of_n_rewards(order, 2) for order in permutations(SAMPLES[:4])}
    assert max(gold for _, gold in found) - min(gold for _, gold in found) < 1e-12


def test_estimator_takes_the_ineligible_last():
    samples = [Scored(9.0, 1.0, False), Scored(0.0, 2.0), Scored(1.0, 4.0)]
    # Pairs: (9, 0) gives 0, (9, 1) gives 1, (0, 1) gives 1; one alone is any of the three.
    assert best_of_n_rewards(samples, 2) == pytest.approx((2 / 3, (2 + 4 + 4) / 3))
    assert best_of_n_rewards(samples, 1) == pytest.approx((10 / 3, 7 / 3))


def test_estimator_needs_as_many_samples():
    with pytest.raises(ValueError, match="best of 8 cannot be estimated from 7 scores of 7 samples"):
        best_of_n_rewards(SAMPLES, 8)


def test_kl_of_best_of_n():
    known = {1: 0.0, 2: 0.1931, 4: 0.6363, 8: 1.2044, 16: 1.8351, 64: 3.1745, 256: 4.5491}
    assert {n: round(best_of_n_kl(n), 4) for n in known} == known
    assert sizes(20) == [1, 2, 4, 8, 16, 20]


def test_best_of_n_of_the_enumerable_task():
    """The mean over many prompts is the exact law, E[max of n] = sum over k of 1 - P(R < k)^n."""
    rng = random.Random(0)
    values, chances = zip(*LAW.items(), strict=True)
    prompts = [[Scored(v, v) for v in rng.choices(values, chances, k=16)] for _ in range(1500)]
    points, resampled = best_of_n_points(prompts, [1, 2, 4, 8, 16], rng)
    for point in points:
        exact = sum(1 - sum(LAW[j] for j in range(k)) ** point.at for k in (1, 2, 3))
        assert exact == pytest.approx(BEST_OF_N[point.at], abs=1e-6)
        # Under 3.5 standard errors for five correlated figures.
        assert abs(point.gold.value - exact) < 3.5 * point.gold.stderr
        assert point.gold == point.proxy
        assert point.gold.low < point.gold.value < point.gold.high
    # n = 1 is the plain mean of 16 samples: its standard error is known.
    variance = sum(p * v * v for v, p in LAW.items()) - BEST_OF_N[1] ** 2
    assert points[0].gold.stderr == pytest.approx(math.sqrt(variance / 16 / 1500), rel=0.15)
    assert len(resampled) == 1000 and len(resampled[0]) == 5


@pytest.mark.parametrize(
    ("method", "peak"),
    # d* = alpha / (2 beta) and exp(alpha / beta - 1).
    [("best-of-n", (1.2 / 0.8) ** 2), ("ppo", math.exp(2 * (1.2 / 0.4 - 1)))],
)
def test_fit_recovers_known_coefficients(method, peak):
    kls = [0.0, 0.2, 0.7, 1.5, 3.0, 6.0, 12.0, 25.0, 60.0]
    golds = [gold_at(method, -0.5, 1.2, 0.4, math.sqrt(kl)) for kl in kls]
    fit = fit_gold(method, kls, golds, [0.01] * len(kls), random.Random(0))
    found = (fit.offset.value, fit.alpha.value, fit.beta.value)
    assert found == pytest.approx((-0.5, 1.2, 0.4), abs=1e-9)
    assert fit.peak_kl == pytest.approx(peak, rel=1e-9)
    assert fit.peak_low < peak < fit.peak_high and fit.within
    # The fitted curve is highest there.
    top, step = math.sqrt(peak), 0.01
    assert gold_at(method, *found, top) > max(gold_at(method, *found, top + s) for s in (-step, step))


def test_fit_by_hand():
    """gold = 1 + d (2 - 0.5 d) at d = 0, 1, 2, 3; for PPO d ln d at d = e is e."""
    assert [gold_at("best-of-n", 1, 2, 0.5, d) for d in (0, 1, 2, 3)] == [1, 2.5, 3, 2.5]
    assert gold_at("ppo", 1, 2, 0.5, math.e) == pytest.approx(1 + 1.5 * math.e)
    assert gold_at("ppo", 1, 2, 0.5, 0.0) == 1
    fit = fit_gold("best-of-n", [0, 1, 4, 9], [1, 2.5, 3, 2.5], [0.1, 0.1, 0.1, 0.1], random.Random(0))
    assert (fit.alpha.value, fit.beta.value, fit.peak_kl) == pytest.approx((2, 0.5, 4))
    assert fit.alpha.n == 4
    assert fit.misfit == pytest.approx(0.0, abs=1e-9)


def test_misfit_by_hand():
    """Errors of 0.1 and residuals orthogonal to 1, d and d^2: +-(1, -3, 3, -1) / 10 at d = 0 to 3."""
    golds = [1 + 0.1, 2.5 - 0.3, 3 + 0.3, 2.5 - 0.1]
    fit = fit_gold("best-of-n", [0, 1, 4, 9], golds, [0.1] * 4, random.Random(0))
    assert (fit.alpha.value, fit.beta.value) == pytest.approx((2, 0.5))
    # One degree of freedom: sqrt(1 + 9 + 9 + 1); the intervals widen by as much.
    assert fit.misfit == pytest.approx(math.sqrt(20))
    good = fit_gold("best-of-n", [0, 1, 4, 9], [1, 2.5, 3, 2.5], [0.1] * 4, random.Random(0))
    assert fit.alpha.stderr == pytest.approx(good.alpha.stderr * math.sqrt(20), rel=0.01)


def test_fit_intervals_hold_the_truth_as_often_as_they_say():
    rng = random.Random(5)
    kls = [0.02 * step**2 for step in range(30)]
    held = {"alpha": 0, "beta": 0}
    for trial in range(60):
        golds = [gold_at("ppo", 0.1, 0.9, 0.3, math.sqrt(kl)) + rng.gauss(0, 0.05) for kl in kls]
        fit = fit_gold("ppo", kls, golds, [0.05] * len(kls), random.Random(trial))
        held["alpha"] += fit.alpha.low <= 0.9 <= fit.alpha.high
        held["beta"] += fit.beta.low <= 0.3 <= fit.beta.high
    # Binomial(60, 0.95): fewer than 50 comes up less than once in 2,000.
    assert min(held.values()) >= 50


def test_fit_weighs_by_the_errors():
    kls = [0.0, 1.0, 4.0, 9.0, 16.0]
    golds = [gold_at("best-of-n", 0, 1, 0.2, math.sqrt(kl)) for kl in kls]
    off = [*golds[:4], golds[4] + 5.0]
    fit = fit_gold("best-of-n", kls, off, [0.01, 0.01, 0.01, 0.01, 100.0], random.Random(0))
    assert (fit.alpha.value, fit.beta.value) == pytest.approx((1, 0.2), abs=1e-4)


def test_fit_says_why_there_is_none():
    few = fit_gold("ppo", [0.0, 1.0, 2.0], [0, 1, 1.5], [0.1] * 3, random.Random(0))
    assert few.startswith("no curve fitted") and "3 were measured" in few
    near = fit_gold("best-of-n", [1, 1 + 1e-7, 1 + 2e-7, 1 + 3e-7], [0, 1, 1, 2], [0.1] * 4, random.Random(0))
    assert near == "no curve fitted: the measured KL lie too close together"
    rising = fit_gold("ppo", [0, 1, 4, 9], [0, 1, 2.4, 4], [0.01] * 4, random.Random(0))
    assert isinstance(rising, Fit) and rising.peak_kl is None and not rising.within


def observation(updates, kl, proxy, gold, n=100, error=0.02):
    return Observation(updates, kl, proxy, error, gold, error, n)


def test_pooled_by_hand():
    seen = [
        observation(0, 0.0, 0.0, 1.0),
        *(observation(k, k / 10, k, 2.0 + k, n=50 * k) for k in (1, 2, 3, 4)),
    ]
    start, two, four = pooled(seen, [0, 2, 4])
    assert (start.at, start.kl, start.gold.value, start.gold.n) == (0, 0.0, 1.0, 100)
    # 1, 2 and 3 lie nearest to 2, 3 as near to 4: weights 50, 100 and 150.
    assert (two.gold.n, two.kl) == (300, pytest.approx((50 * 0.1 + 100 * 0.2 + 150 * 0.3) / 300))
    assert two.gold.value == pytest.approx((50 * 3 + 100 * 4 + 150 * 5) / 300)
    # Batches 13 / 3 - 3, 1 / 3 and -2 / 3 from the mean scatter by more than errors of 0.02 allow.
    apart = math.hypot(50 * 4 / 3, 100 / 3, 150 * 2 / 3) / 300
    assert two.gold.stderr == pytest.approx(apart * math.sqrt(3 / 2))
    steady = pooled([observation(k, 0.1, 1.0, 2.0, n=50 * k) for k in (1, 2, 3)], [2])
    assert steady[0].gold.stderr == pytest.approx(0.02 * math.sqrt(50**2 + 100**2 + 150**2) / 300)
    assert (four.at, four.gold.value) == (4, 6.0)
    assert two.gold.low == pytest.approx(two.gold.value - 1.959964 * two.gold.stderr)


def point(at, proxy, gold, error=0.01):
    return Point(at=at, kl=at / 10, proxy=normal(proxy, error, 100), gold=gold)


def test_advice_takes_the_lower_bound_and_sees_the_fall():
    lucky = point(20, 1.5, normal(2.2, 0.5, 100))
    sure = point(10, 1.0, normal(2.0, 0.02, 100))
    found = advise(
        [point(0, 0.0, normal(1.0, 0.02, 100)), sure, lucky, point(30, 2.0, normal(1.5, 0.02, 100))]
    )
    assert found.best == sure and found.compared == 4
    assert (found.falls[0].at, found.falls[1].at) == (10, 30)
    # A fall of one standard error is no fall, and a fall of the proxy as well is no over-optimisation.
    assert advise([sure, point(30, 2.0, normal(1.98, 0.02, 100))]).falls is None
    assert advise([sure, point(30, 0.5, normal(1.5, 0.02, 100))]).falls is None
    assert advise([point(0, 0.0, None)]) is None


def test_doubts_by_hand():
    """Golds of error 0.01 differ from the first, of three points, at 2.24 * 0.0141 = 0.0317 and more."""

    def reasons(*golds, n=100, per_prompt=1, kl=1.0):
        points = [
            Point(at=k, kl=k * kl, proxy=normal(k, 0.01, n), gold=normal(gold, 0.01, n))
            for k, gold in enumerate(golds)
        ]
        return [setting for _, setting in doubts(points, per_prompt, "judge")]

    assert reasons(1.0, 1.0, 1.033) == reasons(1.0, 0.967, 1.0) == []
    assert reasons(1.0, 1.03, 0.97) == ["iterations"]
    assert reasons(1.0) == ["iterations"]
    assert reasons(1.0, 1.2, 0.8, kl=0.0004) == ["learning_rate"]
    assert reasons(1.0, 1.2, 0.8, kl=0.0006) == []
    assert reasons(1.0, 1.2, n=20) == [] and reasons(1.0, 1.2, n=19) == ["batch_size"]
    assert reasons(1.0, 1.2, per_prompt=5) == [] and reasons(1.0, 1.2, per_prompt=6) == ["batch_size"]
    assert doubts([point(0, 0.0, None), point(10, 1.0, None)], 1, "judge") == []


def write_run(folder, golds, kept=(), watched=("judge",), name="judge"):
    folder.mkdir(parents=True)
    lines = []
    for place, gold in enumerate(golds):
        line = {
            "iteration": place + 1,
            "kl": 0.1 * place,
            "reward": 0.1 * place,
            "reward_stderr": 0.01,
            "n": 64,
        }
        line |= {} if gold is None else {f"reward/{name}": gold, f"reward_stderr/{name}": 0.01}
        lines.append(json.dumps(line))
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "watch.json").write_text(json.dumps({"watched": watched, "config": {"checkpoint_every": 2}}))
    for number in kept:
        policy = folder / "policies" / f"iteration-{number:06d}"
        policy.mkdir(parents=True)
        (policy / "config.json").write_text("{}")
    return folder


RISE_AND_FALL = [0.0, 0.5, 0.9, 1.0, 1.1, 1.0, 0.8, 0.6, 0.3, 0.2, 0.1]


def test_report_names_the_checkpoint(tmp_path):
    write_run(tmp_path / "ppo", RISE_AND_FALL, kept=(2, 4, 6, 8, 10))
    found = measure_overopt(tmp_path)
    assert found.gold == "judge"
    # Iteration 4 takes the batches after 3, 4 and 5 updates: (1.0 + 1.1) / 2 with ties to the earlier.
    by_at = {one.at: one.gold.value for one in found.series[0].points}
    assert by_at == pytest.approx({0: 0.0, 2: 0.8, 4: 1.05, 6: 0.7, 8: 0.25, 10: 0.1})
    assert found.sentences[0].startswith(f"ship iteration 4 of {tmp_path / 'ppo'} ({tmp_path}")
    assert "policies/iteration-000004" in found.sentences[0]
    assert (
        "from iteration 4 to 10 the proxy rises from 0.450 to 1.000 while judge falls" in found.sentences[1]
    )


def test_report_names_what_was_kept(tmp_path):
    write_run(tmp_path / "ppo", RISE_AND_FALL, kept=(6, 10))
    sentence = measure_overopt(tmp_path).sentences[0]
    assert sentence.startswith(f"iteration 4 of {tmp_path / 'ppo'} is best")
    assert "ship iteration 6" in sentence and "keep_policies=true" in sentence


def test_a_folder_of_grpo_is_told_the_settings_of_grpo(tmp_path):
    run = write_run(tmp_path / "grpo", RISE_AND_FALL, kept=(6, 10))
    (run / "watch.json").write_text(json.dumps({"watched": ["judge"], "section": "grpo"}))
    sentence = measure_overopt(tmp_path, ppo=[run]).sentences[0]
    assert sentence.endswith("train again with --set train.grpo.keep_policies=true")
    with pytest.raises(UsageError, match=r"--set train\.grpo\.keep_policies=true"):
        policies_by_step(write_grpo(tmp_path / "none"))
    for line, said in (
        ('{"iteration": 1, "kl": null, "reward": 0.5, "n": 8}', r"train grpo` that .*\(train\.grpo\.kl_coef"),
        ('{"iteration": 1, "kl_from": 4}', r"a run without train\.grpo\.reference_refresh"),
    ):
        (run / "metrics.jsonl").write_text(line + "\n")
        with pytest.raises(DataError, match=said):
            measure_overopt(tmp_path, ppo=[run])


def write_grpo(folder):
    write_run(folder, RISE_AND_FALL)
    (folder / "watch.json").write_text(json.dumps({"watched": ["judge"], "section": "grpo"}))
    return folder


@pytest.mark.parametrize("named", ["--ppo", "--best-of-n"])
def test_the_page_stands_beside_the_folder_that_was_named(tmp_path, monkeypatch, named):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "mine" / "ppo", RISE_AND_FALL, kept=(6, 10))
    samples = [
        {"prompt_id": str(p), "sample": s, "score": s, "scores": {"judge": s}}
        for p in range(4)
        for s in range(4)
    ]
    for run in ("mine", "run"):
        (tmp_path / run / "best-of-n").mkdir(parents=True)
        rows = samples if run == "mine" else samples[:1]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / run / "best-of-n" / "samples.jsonl").write_text(text)
    folder = {"--ppo": "mine/ppo", "--best-of-n": "mine/best-of-n"}[named]
    done = CliRunner().invoke(overopt, [named, folder, "--gold", "judge"], catch_exceptions=False)
    assert done.exit_code == 0 and done.stderr.endswith("report: mine/overopt.html\n")
    # Nothing is read from a run that nobody named, nor written there.
    assert (tmp_path / "mine" / "overopt.html").is_file()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["best-of-n"]
    done = CliRunner().invoke(overopt, ["--run", "run", named, folder, "--gold", "judge"])
    assert done.stderr.endswith("report: run/overopt.html\n")


def test_noise_recommends_nothing(tmp_path):
    """Two batches of 8 answers to 2 prompts, of a policy that stood still."""
    folder = tmp_path / "grpo1"
    folder.mkdir()
    lines = [
        {"iteration": place, "kl": 0.0, "reward": 0.1 * place, "reward_stderr": 0.3, "n": 8,
         "reward/brevity": gold, "reward_stderr/brevity": 2.0}
        for place, gold in ((1, -3.0), (2, -0.64))
    ]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    about = {"watched": ["brevity"], "section": "grpo"}
    about["config"] = {"checkpoint_every": 1, "samples_per_prompt": 4}
    (folder / "watch.json").write_text(json.dumps(about))
    found = measure_overopt(tmp_path, ppo=[folder])
    assert found.sentences == (
        f"cannot tell which policy of {folder} to ship: the policy has not moved, the KL is 0.000 to 0.000 "
        "at its 2 points; a point has as few as 8 answers to 2 prompts, and below 20 prompts a difference "
        "may be chance; at no point does brevity differ from the first one's, -3.000 (-6.920 to 0.920, "
        "n = 8), beyond chance; raise train.grpo.learning_rate, train.grpo.batch_size, train.grpo.iterations",
    )
    assert found.series[0].advice is None
    # Of two runs the one that says something is shipped from, and the other is named.
    sure = write_run(tmp_path / "ppo", RISE_AND_FALL, kept=(2, 4), watched=("brevity",), name="brevity")
    said = measure_overopt(tmp_path, ppo=[folder, sure]).sentences
    assert said[0].startswith(f"ship iteration 4 of {sure}") and "bound of 6 points" in said[0]
    assert said[1].startswith(f"cannot tell which policy of {folder}")


def test_report_may_ship_nothing(tmp_path):
    write_run(tmp_path / "ppo", [1.0 - 0.1 * place for place in range(9)])
    assert measure_overopt(tmp_path).sentences[0].startswith("ship none of these checkpoints")


def test_a_proxy_alone_recommends_nothing(tmp_path):
    write_run(tmp_path / "ppo", [None] * 8, watched=())
    found = measure_overopt(tmp_path)
    assert found.gold is None and len(found.sentences) == 1
    assert "no checkpoint can be recommended by the proxy alone" in found.sentences[0]
    page = page_of(found, "run")
    assert [plot.title for plot in page.plots] == ["Proxy: what is maximised"]


def test_names_that_are_unknown_or_unclear(tmp_path):
    run = write_run(tmp_path / "ppo", RISE_AND_FALL)
    with pytest.raises(UsageError, match="'judgement'; measured were judge"):
        measure_overopt(tmp_path, gold="judgement")
    with pytest.raises(UsageError, match=r"neither ppo/metrics\.jsonl nor best-of-n"):
        measure_overopt(tmp_path / "none")
    samples = tmp_path / "best"
    samples.mkdir()
    rows = [{"prompt_id": "a", "sample": s, "scores": {"judge": s, "x": s, "y": -s}} for s in range(4)]
    (samples / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UsageError, match="one of x, y, the gold judge aside"):
        measure_overopt(tmp_path, best_of_n=samples)
    chosen = measure_overopt(tmp_path, best_of_n=samples, proxy="y").series[1]
    # By y the lowest judge's is taken: the mean lower one of two is (3 * 0 + 2 * 1 + 2) / 6.
    assert [one.gold.value for one in chosen.points] == pytest.approx([1.5, 4 / 6, 0.0])
    # A run without a reference has null for its KL.
    (run / "metrics.jsonl").write_text('{"iteration": 1, "kl": null, "reward": 0.5, "n": 8}\n')
    with pytest.raises(DataError, match=r"metrics.jsonl:1: needs numbers for iteration, kl.*kl_coef above 0"):
        measure_overopt(tmp_path, gold="x", best_of_n=samples, proxy="y")
    moved = '{"iteration": 1, "kl": 0.1, "reward": 0.5, "n": 8, "kl_from": 0}\n'
    (run / "metrics.jsonl").write_text(moved + moved.replace('"kl_from": 0', '"kl_from": 4'))
    with pytest.raises(DataError, match=r"metrics.jsonl:2: the KL is from .* renewed after iteration 4"):
        measure_overopt(tmp_path, gold="x", best_of_n=samples, proxy="y")


def test_best_of_n_counts_what_it_leaves_out(tmp_path):
    rows = [
        {
            "prompt_id": name,
            "scores": {"reward": float(s), "gold": None if (name, s) == ("b", 0) else 2.0 * s},
        }
        for name in ("a", "b", "c", "d")
        for s in range(4)
    ]
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (series,) = measure_overopt(tmp_path / "none", best_of_n=tmp_path, gold="gold").series
    # Which of its scores best-of-n did not go by is for the user to say.
    unnamed = measure_overopt(tmp_path / "none", best_of_n=tmp_path)
    assert unnamed.gold is None and unnamed.series[0].points == ()
    assert series.notes == (
        "1 samples lack a score",
        "1 prompts with fewer than 4 scored samples are left out",
    )
    assert [one.gold.n for one in series.points] == [3, 3, 3]
    # Of 0, 1, 2, 3 the best of two is (1 + 2 * 2 + 3 * 3) / 6 = 7 / 3; the gold is twice that.
    assert [one.gold.value for one in series.points] == pytest.approx([3.0, 14 / 3, 6.0])


def test_charts_are_no_wider_than_they_are_drawn(tmp_path):
    """A viewBox stretched over the page enlarges its text with it."""
    write_run(tmp_path / "ppo", [None] * 8, watched=())
    text = render_overopt(page_of(measure_overopt(tmp_path), "run"))
    ((width, drawn),) = re.findall(r'<svg width="(\d+)" viewBox="0 0 (\d+) \d+" class="chart"', text)
    assert width == drawn and "svg.chart { max-width: 100%; height: auto;" in text


def test_page_escapes_and_is_well_formed(tmp_path):
    import html5lib

    name = "<script>alert(1)</script>"
    write_run(tmp_path / "ppo", RISE_AND_FALL, kept=(4,), watched=(name,), name=name)
    found = measure_overopt(tmp_path)
    text = render_overopt(page_of(found, "a & b"))
    assert "<script" not in text and "&lt;script&gt;alert(1)" in text and "a &amp; b" in text
    parser = html5lib.HTMLParser(strict=False)
    tree = parser.parse(text)
    assert not parser.errors
    # Two plots of 6 points, each with what it is of.
    marks = tree.findall(".//{http://www.w3.org/2000/svg}path/{http://www.w3.org/2000/svg}title")
    assert len(marks) == 2 * len(found.series[0].points)
