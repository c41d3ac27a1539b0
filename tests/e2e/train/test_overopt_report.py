"""The over-optimisation report on a proxy learned from noisy comparisons, where the gold is known exactly."""

import json
import math
import random
import re
from itertools import product

import pytest
from click.testing import CliRunner

from constitute.cli.train.overopt import overopt

END, LIMIT = 2, 3
SEQUENCES = [
    tokens
    for length in range(1, LIMIT + 1)
    for tokens in product((0, 1, END), repeat=length)
    if END not in tokens[:-1] and (tokens[-1] == END or length == LIMIT)
]
REFERENCE = [3.0 ** -len(tokens) for tokens in SEQUENCES]
GOLD = [float(tokens.count(1)) for tokens in SEQUENCES]


def learned_proxy(comparisons, seed):
    """Bradley-Terry scores of the 15 responses, from few comparisons labelled with P = sigmoid of the gap."""
    rng = random.Random(seed)
    scores = [0.0] * len(SEQUENCES)
    labelled = []
    for _ in range(comparisons):
        a, b = rng.sample(range(len(SEQUENCES)), 2)
        wins = rng.random() < 1 / (1 + math.exp(GOLD[b] - GOLD[a]))
        labelled.append((a, b) if wins else (b, a))
    for _ in range(300):
        slopes = [-0.05 * score for score in scores]
        for won, lost in labelled:
            slope = 1 / (1 + math.exp(scores[won] - scores[lost]))
            slopes[won] += slope
            slopes[lost] -= slope
        scores = [score + 0.2 * slope for score, slope in zip(scores, slopes, strict=True)]
    return scores


def policy_at(strength, proxy):
    """The KL-regularised optimum for the proxy: pi proportional to pi_ref exp(strength * proxy)."""
    weights = [p * math.exp(strength * score) for p, score in zip(REFERENCE, proxy, strict=True)]
    return [weight / sum(weights) for weight in weights]


def expected(policy, values):
    return sum(p * value for p, value in zip(policy, values, strict=True))


def kl_of(policy):
    return expected(policy, [math.log(p / q) for p, q in zip(policy, REFERENCE, strict=True)])


def mean_and_error(values):
    centre = sum(values) / len(values)
    return centre, math.sqrt(sum((v - centre) ** 2 for v in values) / (len(values) - 1) / len(values))


def write_ppo(folder, path, proxy, rng, batch):
    """A run whose policy after k iterations is path[k], as `train ppo` would have written it."""
    folder.mkdir(parents=True)
    with (folder / "metrics.jsonl").open("w") as file:
        for place, policy in enumerate(path[:-1]):
            drawn = rng.choices(range(len(SEQUENCES)), policy, k=batch)
            line = {"iteration": place + 1, "n": batch}
            line["kl"] = sum(math.log(policy[i] / REFERENCE[i]) for i in drawn) / batch
            line["reward"], line["reward_stderr"] = mean_and_error([proxy[i] for i in drawn])
            line["reward/gold"], line["reward_stderr/gold"] = mean_and_error([GOLD[i] for i in drawn])
            file.write(json.dumps(line) + "\n")
    about = {"run_id": "0", "watched": ["gold"], "config": {"checkpoint_every": 5}}
    (folder / "watch.json").write_text(json.dumps(about))
    for number in range(5, len(path), 5):
        kept = folder / "policies" / f"iteration-{number:06d}"
        kept.mkdir(parents=True)
        (kept / "config.json").write_text("{}")


def write_best_of_n(folder, proxy, rng, prompts, samples):
    folder.mkdir(parents=True)
    with (folder / "samples.jsonl").open("w") as file:
        for prompt, sample in product(range(prompts), range(samples)):
            (i,) = rng.choices(range(len(SEQUENCES)), REFERENCE)
            row = {"prompt_id": f"p{prompt}", "sample": sample, "score": proxy[i]}
            row["scores"] = {"learned": proxy[i], "gold": GOLD[i]}
            file.write(json.dumps(row) + "\n")


def exact_best_of_n(proxy, n):
    """E[gold of the highest proxy of n], by the order statistics of 15 responses."""
    order = sorted(range(len(SEQUENCES)), key=lambda i: proxy[i])
    below = total = 0.0
    for i in order:
        total += GOLD[i] * ((below + REFERENCE[i]) ** n - below**n)
        below += REFERENCE[i]
    return total


# Draws of labels bad enough that some poor response comes out on top.
@pytest.mark.parametrize(("comparisons", "seed"), [(20, 33), (30, 27), (30, 6)])
def test_report_finds_the_gold_peak_of_a_noisy_proxy(tmp_path, comparisons, seed):
    proxy, rng = learned_proxy(comparisons, seed), random.Random(seed)
    path = [policy_at(6.0 * (place / 60) ** 2, proxy) for place in range(61)]
    exact = [expected(policy, GOLD) for policy in path]
    peak = exact.index(max(exact))
    # The task is one of over-optimisation: the gold rises, then falls, while the proxy always rises.
    assert 5 < peak < 50 and exact[peak] > exact[0] + 0.2 and exact[-1] < exact[peak] - 0.2
    write_ppo(tmp_path / "ppo", path, proxy, rng, batch=1024)
    write_best_of_n(tmp_path / "best-of-n", proxy, rng, prompts=300, samples=16)

    done = CliRunner().invoke(overopt, ["--run", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    ppo, best_of_n = found["series"]
    shipped = ppo["advice"]["best"]["at"]
    # The gold of what is shipped is the highest of any checkpoint, up to the sampling noise.
    assert exact[shipped] > max(exact[5::5]) - 0.03
    assert abs(shipped - peak) <= 10
    assert f"ship iteration {shipped} of {tmp_path / 'ppo'}" in found["sentences"][0]
    assert "over-optimisation" in found["sentences"][1]
    for point in ppo["points"]:
        # A point averages the batches about its checkpoint; the trend cancels but for its bend.
        assert abs(point["gold"]["value"] - exact[point["at"]]) < 0.03 + 4 * point["gold"]["stderr"]
        assert abs(point["kl"] - kl_of(path[point["at"]])) < 0.1
    for point in best_of_n["points"]:
        assert abs(point["gold"]["value"] - exact_best_of_n(proxy, point["at"])) < 4 * point["gold"]["stderr"]
    page = (tmp_path / "overopt.html").read_text()
    assert len(re.findall(r'<path d="M[^"A]*L', page)) == 2 and f"Ship iteration {shipped} of" in page


def ones(completion):
    return float(completion.token_ids.count(1))


def test_report_on_a_real_run_of_ppo(tmp_path):
    """PPO against the proxy, the gold watched; the policies it kept are enumerated."""
    from e2e.train.test_gibbs import exact, run
    from transformers import AutoModelForCausalLM

    from constitute.train.rewards.parts import RewardPart

    # Length pays, and token 0 a little more than token 1: first the responses grow, then their ones go.
    parts = (
        RewardPart("long", lambda _, found: [ones(one) + 1.3 * one.token_ids.count(0) for one in found]),
        RewardPart("gold", lambda _, found: [ones(one) for one in found], weight=0.0),
    )
    changes = {"iterations": 24, "checkpoint_every": 3, "keep_policies": True, "learning_rate": 1e-3}
    rewards = [{"source": "m:long", "name": "long"}, {"source": "m:gold", "name": "gold", "weight": 0}]
    run(tmp_path, 0.02, 0, reward=parts, rewards=rewards, schedule="constant", **changes)

    out = tmp_path / "out"
    done = CliRunner().invoke(overopt, ["--run", str(tmp_path), "--ppo", str(out), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    (series,) = found["series"]
    golds, kls = {0: 19 / 27}, {0: 0.0}
    for number in range(3, 25, 3):
        policy = AutoModelForCausalLM.from_pretrained(out / "policies" / f"iteration-{number:06d}")
        golds[number], kls[number] = exact(policy)
    shipped = series["advice"]["best"]["at"]
    # Measured in passing, the points are close to the kept policies' exact gold, and the best is the best.
    for point in series["points"]:
        assert abs(point["gold"]["value"] - golds[point["at"]]) < 0.05 + 4 * point["gold"]["stderr"]
        assert abs(point["kl"] - kls[point["at"]]) < 0.2
    assert golds[shipped] > max(golds.values()) - 0.03
    assert golds[shipped] > golds[0] + 0.2 and golds[24] < golds[shipped] - 0.5
    assert found["gold"] == "gold" and f"policies/iteration-{shipped:06d}" in found["sentences"][0]
    assert f"from iteration {shipped} to 24 the proxy rises" in found["sentences"][1]
