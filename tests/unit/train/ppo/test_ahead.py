"""Batches sampled one update ahead: whose weights sample which batch, the numbers, overlap and resuming."""

from __future__ import annotations

import json
import threading

import pytest
import torch
from e2e.train.test_gibbs import END, LIMIT, PROMPT, ones
from e2e.train.test_ppo_options import WithLogprobs, start_in
from pydantic import ValidationError
from tolerance import LOGPROB

from constitute.config.ppo import PPOConfig
from constitute.errors import DataError, EngineError
from constitute.progress import Silent
from constitute.train.ppo.ahead import Ahead
from constitute.train.ppo.run import train_ppo

CLOCK = ("seconds", "tokens_per_second")


class Told(WithLogprobs):
    """Notes each call, and keeps what it sampled."""

    def __init__(self, folder, eos):
        super().__init__(folder, eos)
        self.calls, self.batches, self.pushes = [], [], 0

    def generate_ids(self, prompts, sampling, *, logprobs):
        found = super().generate_ids(prompts, sampling, logprobs=logprobs)
        if logprobs:
            self.calls.append(f"batch by {self.pushes}")
            self.batches.append(found)
        return found

    def update_weights(self, named_tensors, *, fingerprint=None):
        super().update_weights(named_tensors, fingerprint=fingerprint)
        # The push at the start brings what the engine holds anyway.
        self.pushes = int(fingerprint.rpartition("-")[2])
        self.calls.append(f"push {self.pushes}")


class Apart(Told):
    """Samples in another place, as a server does."""

    overlaps = True


def learn(folder, engine=Told, **changes):
    start = start_in(folder)
    settings = {
        "iterations": 3, "batch_size": 8, "epochs": 1, "max_new_tokens": LIMIT, "kl_coef": 0.0,
        "learning_rate": 2e-2, "missing_eos_penalty": None, "checkpoint_every": 1, "advantage": "rloo",
        "samples_per_prompt": 4, "schedule": "constant", "max_grad_norm": 1e9, "off_by": 1,
    }  # fmt: skip
    used = engine(start, {END})
    train_ppo(
        [PROMPT], [[END]], str(start), ones, folder / "out", PPOConfig(**settings | changes),
        engine=used, seed=0, progress=Silent(),
    )  # fmt: skip
    return used


def lines_of(folder):
    text = (folder / "out" / "metrics.jsonl").read_text()
    return [{k: v for k, v in json.loads(line).items() if k not in CLOCK} for line in text.splitlines()]


def weights_of(folder):
    from safetensors.torch import load_file

    return load_file(folder / "out" / "model.safetensors")


def by_hand(start, batches):
    """The weights after one AdamW step of weighted REINFORCE on each batch, worked out from the paper.

    The loss of a batch is -sum_t w_t A_b ratio_t / tokens, where A is the reward minus the mean reward of
    the other samples, and w = min(2, pi_trainer / pi_engine) (arXiv 2505.24298, the proximal policy being
    the one that the update starts from, so that the ratio is 1).
    """
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2, eps=1e-5, weight_decay=0.0)
    largest = []
    for batch in batches:
        rewards = [float(one.token_ids.count(1)) for one in batch]
        loss, tokens, weights = 0.0, 0, []
        for row, one in enumerate(batch):
            group = rewards[row // 4 * 4 : row // 4 * 4 + 4]
            advantage = rewards[row] - (sum(group) - rewards[row]) / 3
            ids = torch.tensor([[END, *one.token_ids]])
            logs = model(ids).logits[0, :-1].log_softmax(-1)
            new = torch.stack([logs[place, token] for place, token in enumerate(one.token_ids)])
            found = torch.exp(new.detach() - torch.tensor(one.logprobs)).clamp(max=2.0)
            loss = loss - (found * advantage * torch.exp(new - new.detach())).sum()
            tokens += len(one.token_ids)
            weights += found.tolist()
        optimizer.zero_grad()
        (loss / tokens).backward()
        optimizer.step()
        largest.append((sum(weights) / len(weights), sum(w >= 2.0 for w in weights) / len(weights)))
    return model.state_dict(), largest


def test_each_batch_is_sampled_by_the_weights_before_the_last_update(tmp_path):
    engine = learn(tmp_path)
    assert engine.calls == [
        "push 0", "batch by 0", "batch by 0", "push 1", "batch by 1", "push 2", "push 3",
    ]  # fmt: skip
    on_time = tmp_path / "on time"
    on_time.mkdir()
    # With weights of their own age there is no second batch before the first push.
    assert learn(on_time, off_by=0, importance_cap=2.0).calls == [
        "push 0", "batch by 0", "push 1", "batch by 1", "push 2", "batch by 2", "push 3",
    ]  # fmt: skip
    assert not (tmp_path / "out" / "ahead").exists()


def test_two_iterations_by_hand(tmp_path):
    engine = learn(tmp_path, iterations=2)
    expected, weights = by_hand(tmp_path / "start", engine.batches)
    found = weights_of(tmp_path)
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-5, msg=name)
    lines = lines_of(tmp_path)
    for line, (mean, capped) in zip(lines, weights, strict=True):
        assert line["importance_weight"] == pytest.approx(mean, rel=1e-4)
        assert line["importance_capped"] == pytest.approx(capped, abs=1e-6)
    # The first batch is on policy; the second is not, or the test would not see the weights.
    assert lines[0]["importance_weight"] == pytest.approx(1.0, **LOGPROB)
    assert abs(lines[1]["importance_weight"] - 1.0) > 0.01
    start = by_hand(tmp_path / "start", engine.batches[:1])[0]
    assert any((start[name] - expected[name]).abs().max() > 1e-3 for name in found)


def test_a_thread_samples_what_a_sequence_would(tmp_path):
    figures, weights = [], []
    for engine in (Told, Apart):
        folder = tmp_path / engine.__name__
        folder.mkdir()
        learn(folder, engine=engine)
        figures.append(lines_of(folder))
        weights.append(weights_of(folder))
    assert figures[0] == figures[1]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    (line,) = (tmp_path / "Apart" / "out" / "metrics.jsonl").read_text().splitlines()[:1]
    assert json.loads(line)["seconds"]["ahead"] > 0


class Dies(Told):
    """Ends the run at its third push (the first is the start's), after the second checkpoint."""

    def update_weights(self, named_tensors, *, fingerprint=None):
        if fingerprint.endswith("-3"):
            raise EngineError("killed")
        super().update_weights(named_tensors, fingerprint=fingerprint)


def test_resumed_it_goes_on_with_the_batch_that_was_sampled_before(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    learn(whole, iterations=4)
    with pytest.raises(EngineError, match="killed"):
        learn(broken, iterations=4, engine=Dies)
    assert [path.name for path in (broken / "out" / "ahead").iterdir()] == ["iteration-000003.jsonl"]
    engine = learn(broken, iterations=4)
    # Batch 3 (of 1 to 4) comes from the file; batch 4 is sampled by the weights of two updates.
    assert engine.calls == ["push 2", "batch by 2", "push 3", "push 4"]
    assert lines_of(broken) == lines_of(whole)
    assert all(torch.equal(weights_of(broken)[name], tensor) for name, tensor in weights_of(whole).items())


def test_without_the_file_it_does_not_go_on_with_another_batch(tmp_path):
    with pytest.raises(EngineError, match="killed"):
        learn(tmp_path, iterations=4, engine=Dies)
    (path,) = (tmp_path / "out" / "ahead").iterdir()
    path.unlink()
    with pytest.raises(DataError, match=r"iteration-000003.jsonl is gone, .* checkpoint of iteration 2"):
        learn(tmp_path, iterations=4)


class Scripted:
    """What `Ahead` uses of a sampler, answering when `go` is set."""

    def __init__(self):
        self.engine, self.go, self.began = self, threading.Event(), threading.Event()
        self.overlaps = True

    def ask(self, number, groups):
        from types import SimpleNamespace

        return SimpleNamespace(iteration=number)

    def answered(self, asked):
        self.began.set()
        assert self.go.wait(30)
        return [asked.iteration]

    def gathered(self, asked, found):
        return f"batch of {found}"

    def sample(self, number, groups):
        return f"sampled {number} now"


def test_the_learner_works_while_a_batch_is_sampled(tmp_path):
    sampler = Scripted()
    ahead = Ahead(sampler, tmp_path, groups=1)
    assert ahead.take(0) == "sampled 0 now"
    ahead.begin(1)
    assert sampler.began.wait(30) and ahead.held is None
    # Here the learner would update; only now the engine answers.
    sampler.go.set()
    ahead.finish()
    assert ahead.take(1) == "batch of [1]" and ahead.held is None and ahead.seconds > 0


def test_what_stops_sampling_stops_the_run(tmp_path):
    sampler = Scripted()
    sampler.answered = lambda asked: 1 / 0
    ahead = Ahead(sampler, tmp_path, groups=1)
    ahead.begin(1)
    with pytest.raises(ZeroDivisionError):
        ahead.finish()
    sampler.overlaps = False
    with pytest.raises(ZeroDivisionError):
        ahead.begin(1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"temperature": 0.7}, "set temperature=1"),
        (
            {"resample_rounds": 1, "samples_per_prompt": 2, "batch_size": 2},
            "set off_by=0 or resample_rounds=0",
        ),
        ({"off_by": 2}, "0 or 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, words):
    with pytest.raises(ValidationError, match=words):
        PPOConfig(**{"off_by": 1} | changes)


def test_the_cap_is_two_where_nothing_else_is_said():
    assert PPOConfig().weight_cap is None and PPOConfig(off_by=1).weight_cap == 2.0
    assert PPOConfig(off_by=1, importance_cap=5.0).weight_cap == 5.0
    # The ratio is then already the engine's.
    assert PPOConfig(off_by=1, old_logprobs="engine").weight_cap is None
