"""Best-of-n: the estimator against exact values, the choice, and that stopping it changes nothing."""

import json
import math
import random
from itertools import combinations

import pytest
from tiny_models import chatml_tokenizer
from train_models import tiny_causal

from constitute.config.train import BestOfNConfig
from constitute.errors import DataError, RunMismatch
from constitute.progress import Silent
from constitute.train.best_of_n.choice import (
    SampledCompletion,
    argmax,
    best_of,
    read_samples,
    reward_curve,
    shortfall,
    sizes,
)
from constitute.train.best_of_n.run import sample_best
from constitute.train.common.data import read_conversations
from constitute.train.rewards.parts import RewardPart
from constitute.types import Completion, Message, Prompt

# Law of the number of ones in a response of the uniform policy (tests/e2e/test_train_gibbs.py), in 27ths.
LAW = {0: 14, 1: 8, 2: 4, 3: 1}
EXACT = {1: 0.703704, 2: 1.139918, 4: 1.627039, 8: 2.061080, 16: 2.415515}


def multisets(n):
    """All outcomes of n draws from LAW up to order, with their probabilities."""
    for bars in combinations(range(n + 3), 3):
        counts = [bars[0], bars[1] - bars[0] - 1, bars[2] - bars[1] - 1, n + 2 - bars[2]]
        ways, left, mass = 1, n, 1
        for count, weight in zip(counts, LAW.values(), strict=True):
            ways, left, mass = ways * math.comb(left, count), left - count, mass * weight**count
        yield [value for value, count in zip(LAW, counts, strict=True) for _ in range(count)], ways * mass


@pytest.mark.parametrize("k", EXACT)
def test_the_estimate_is_unbiased(k):
    draws = list(multisets(16))
    assert len(draws) == 969 and sum(mass for _, mass in draws) == 27**16
    expected = math.fsum(best_of(scores, k) * (mass / 27**16) for scores, mass in draws)
    assert expected == pytest.approx(EXACT[k], abs=1e-6)


def test_the_estimate_by_hand():
    # Pairs of 1, 2, 3 have the maxima 2, 3, 3.
    assert best_of([3, 1, 2], 2) == pytest.approx(8 / 3)
    assert best_of([3, 1, 2], 1) == 2.0 and best_of([3, 1, 2], 3) == 3.0
    # With one that cannot be chosen, pairs of x, 1, 3 have the maxima 1, 3, 3; of x, y, 5 the pair x, y none.
    assert best_of([1, 3], 2, ineligible=1) == pytest.approx(7 / 3)
    assert best_of([5], 2, ineligible=2) == 5.0
    for scores, k in (([], 1), ([1.0], 2), ([1.0], 0)):
        with pytest.raises(ValueError, match="cannot be estimated"):
            best_of(scores, k)


def test_sizes_and_curve():
    assert sizes(16) == [1, 2, 4, 8, 16] and sizes(6) == [1, 2, 4, 6] and sizes(1) == [1]
    curve = reward_curve([[1.0, 3.0], [5.0], []], 2, seed=0)
    assert {name: (figure.value, figure.n) for name, figure in curve.items()} == {
        "best of 1": (3.5, 2),
        "best of 2": (4.0, 2),
    }
    assert curve["best of 2"].low == 3.0 and curve["best of 2"].high == 5.0
    assert reward_curve([[], []], 2, seed=0) == {}


def sampled(sample, score, text="said", ended=True):
    return SampledCompletion(
        prompt_id="p", sample=sample, text=text, tokens=2, finish_reason="stop", ended=ended,
        scores={"reward": score}, score=score,
    )  # fmt: skip


def test_the_best_ended_and_said_something():
    rows = [sampled(0, 1.0), sampled(1, 9.0, ended=False), sampled(2, 8.0, text=" "), sampled(3, 2.0)]
    assert argmax(rows).sample == 3
    assert argmax([sampled(0, 2.0), sampled(1, 2.0)]).sample == 0
    assert argmax(rows[1:3]) is None


class Scripted:
    """An engine whose row i depends on `seed + i` alone; stops for good after `calls` batches."""

    context_length = 64

    def __init__(self, end, calls=10**6):
        self.end, self.calls, self.rows = end, calls, 0

    def generate_ids(self, prompts, sampling, *, logprobs):
        self.calls -= 1
        if self.calls < 0:
            raise KeyboardInterrupt
        self.rows += len(prompts)
        return [self._completion(prompt, sampling, i) for i, prompt in enumerate(prompts)]

    def _completion(self, prompt, sampling, i):
        rng = random.Random(f"{sampling.seed + i}:{list(prompt)}")
        words = [rng.choice("abc") for _ in range(rng.randint(1, 4))]
        # The prompt of three tokens never ends.
        ended = len(prompt) != 3 and rng.random() < 0.7
        ids = [5 + "abc".index(word) for word in words] + [self.end] * ended
        return Completion(
            text=" ".join(words), token_ids=tuple(ids), finish_reason="stop" if ended else "length"
        )


def count_a(prompts, completions):
    return [float(completion.text.count("a")) for completion in completions]


def count_b(prompts, completions):
    return [float(completion.text.count("b")) for completion in completions]


PROMPTS = [Prompt(id=f"p{n}", messages=(Message(role="user", content=f"case {n}"),)) for n in range(7)]
IDS = [[1, 2, 3] if n == 4 else [1, 2, 3, 10 + n] for n in range(6)] + [[1] * 60]
PARTS = (RewardPart("a", count_a, 1.0), RewardPart("b", count_b, 0.0))


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    tokenizer = chatml_tokenizer()
    folder = tmp_path_factory.mktemp("policy")
    tiny_causal(len(tokenizer), width=16, eos=tokenizer.eos_token_id).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def run(policy, out, engine, reward=PARTS, progress=None, **changes):
    settings = BestOfNConfig(**({"n": 6, "max_new_tokens": 8, "batch_size": 12} | changes))
    progress = progress or Silent()
    return sample_best(PROMPTS, IDS, policy, reward, out, settings, engine=engine, seed=0, progress=progress)


def end_of():
    return chatml_tokenizer().eos_token_id


def test_what_is_written_and_told(tmp_path, policy):
    summary = run(policy, tmp_path, Scripted(end_of()))
    samples = list(read_samples(tmp_path / "samples.jsonl"))
    assert [(row.prompt_id, row.sample) for row in samples] == [
        (f"p{p}", s) for p in range(6) for s in range(6)
    ]
    assert all(row.scores == {"a": row.text.count("a"), "b": row.text.count("b")} for row in samples)
    assert all(row.score == row.scores["a"] for row in samples)
    assert all(row.tokens == len(row.text.split()) + row.ended for row in samples)
    best = [json.loads(line) for line in (tmp_path / "best.jsonl").read_text().splitlines()]
    assert [row["id"] for row in best] == ["p0", "p1", "p2", "p3", "p5"]
    for row in best:
        ended = [one for one in samples if one.prompt_id == row["id"] and one.ended]
        assert row["score"] == max(one.score for one in ended)
        assert row["completion"] == samples[6 * int(row["id"][1]) + row["sample"]].text
    conversations = [one.turns for one in read_conversations(tmp_path / "best.jsonl", "last")]
    assert [turn.content for turn in conversations[0]] == ["case 0", best[0]["completion"]]
    assert (summary["prompts"], summary["prompts_failed"], summary["prompts_too_long"]) == (6, 1, 1)
    assert summary["samples"] == 36 and summary["samples_cut_off"] == sum(not row.ended for row in samples)
    assert summary["tokens"] == sum(row.tokens for row in samples)
    means = [
        sum(scores) / len(scores)
        for p in (0, 1, 2, 3, 5)
        if (scores := [row.score for row in samples if row.prompt_id == f"p{p}" and row.ended])
    ]
    assert summary["reward"]["best of 1"]["value"] == pytest.approx(sum(means) / 5)
    assert summary["reward"]["best of 6"]["value"] == pytest.approx(sum(row["score"] for row in best) / 5)
    assert summary["chosen"]["a"]["value"] == pytest.approx(summary["reward"]["best of 6"]["value"])
    assert summary["kl_bound"]["best of 4"] == pytest.approx(math.log(4) - 0.75)
    assert list(summary["kl_bound"]) == ["best of 1", "best of 2", "best of 4", "best of 6"]


def test_the_progress_counts_prompts_without_an_answer_and_agrees_with_the_summary(tmp_path, policy):
    shown = []

    class Shown(Silent):
        def advance(self, stage, status="ok", **figures):
            shown.append((status, figures))

    with pytest.raises(KeyboardInterrupt):
        run(policy, tmp_path, Scripted(end_of(), calls=2), progress=Shown())
    summary = run(policy, tmp_path, Scripted(end_of()), progress=Shown())
    assert [status for status, _ in shown] == ["ok"] * 4 + ["failed", "ok"]
    chosen = summary["chosen"]["score"]
    assert shown[-1][1] == {"chosen score": pytest.approx(chosen["value"])} and chosen["n"] == 5


@pytest.mark.parametrize(
    ("cut_off", "failed", "said"),
    [
        (
            46,
            22,
            "46 of 48 samples were cut off at 24 tokens, and 22 of 24 prompts have no answer to choose; "
            "raise train.best_of_n.max_new_tokens",
        ),
        (24, 0, "24 of 48 samples were cut off at 24 tokens; raise train.best_of_n.max_new_tokens"),
        (23, 0, ""),
        (0, 1, "1 of 24 prompts have no answer to choose: all their samples are empty; read samples.jsonl"),
    ],
)
def test_too_few_tokens_are_told_with_the_setting_to_raise(cut_off, failed, said):
    counts = {"prompts": 24, "prompts_failed": failed, "samples": 48, "samples_cut_off": cut_off}
    assert shortfall(counts, 24) == said


def test_a_killed_run_goes_on_with_the_same_samples(tmp_path, policy):
    run(policy, tmp_path / "whole", Scripted(end_of()))
    killed = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        run(policy, killed, Scripted(end_of(), calls=2))
    # Four prompts are on disk; a torn write left a whole line and half of one.
    with (killed / "samples.jsonl").open("a") as file:
        file.write(sampled(0, 1.0).model_dump_json() + '\n{"prompt_id": "p4", "sa')
    engine = Scripted(end_of())
    # The same batches are cut elsewhere, as the rest starts at the fifth prompt: the samples are the same.
    summary = run(policy, killed, engine)
    assert engine.rows == 12 and summary["prompts_sampled_before"] == 4
    for name in ("samples.jsonl", "best.jsonl"):
        assert (killed / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    # Finished: nothing is sampled, and other settings are refused.
    assert run(policy, killed, Scripted(end_of(), calls=0)) == summary
    with pytest.raises(RunMismatch, match=r"config\.n was 6, now 5; give the same settings"):
        run(policy, killed, Scripted(end_of()), n=5)
    with pytest.raises(RunMismatch, match="inputs"):
        run(policy, killed, Scripted(end_of()), reward=count_a)


def test_the_size_of_a_batch_changes_no_sample(tmp_path, policy):
    run(policy, tmp_path / "one", Scripted(end_of()), batch_size=1)
    run(policy, tmp_path / "all", Scripted(end_of()), batch_size=1000)
    one, every = ((tmp_path / name / "samples.jsonl").read_bytes() for name in ("one", "all"))
    assert one == every


def test_samples_of_unknown_origin_and_no_room_are_refused(tmp_path, policy):
    with pytest.raises(DataError, match="no prompt leaves room for 80 new tokens in a context of 64"):
        run(policy, tmp_path / "long", Scripted(end_of()), max_new_tokens=80)
    (tmp_path / "samples.jsonl").write_text("")
    with pytest.raises(RunMismatch, match="give another --out"):
        run(policy, tmp_path, Scripted(end_of()))
