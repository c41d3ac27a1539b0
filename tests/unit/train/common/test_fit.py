"""The supervised loop: its gradients, its schedule, and that stopping it changes nothing."""

import math
from types import SimpleNamespace

import pytest
import torch
from tolerance import FIGURE, FORMULA, assert_weights
from torch import nn

from constitute.errors import GateFailed, RunMismatch
from constitute.progress import Silent
from constitute.train.common.fit import Job, batches_of, drop_checkpoints, fit, rate_factor

MADE = {"kind": "toy", "seed": 0}


def settings(**changes):
    defaults = {
        "epochs": 2.0, "learning_rate": 0.05, "schedule": "cosine", "warmup": 0.1, "batch_size": 8,
        "microbatch_tokens": 40, "gradient_checkpointing": False, "checkpoint_every": 3,
        "keep_checkpoints": 1,
    }  # fmt: skip
    return SimpleNamespace(**defaults | changes)


class Stop(Silent):
    """Raises after a number of steps, as an interrupt would; counts what it is told."""

    def __init__(self, after=None):
        self.after, self.steps, self.started = after, 0, None

    def start(self, stage, total=None, done=0):
        self.started = (stage, total, done)

    def advance(self, stage, status="ok", **figures):
        self.steps += 1
        if self.steps == self.after:
            raise KeyboardInterrupt


def toy():
    """A network with weighted squared errors as its summed loss; 30 examples of unlike lengths."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
    x_N3, y_N = torch.randn(30, 3), torch.randn(30)
    weights = [0.5 + (row % 4) for row in range(30)]
    lengths = [1 + (7 * row) % 13 for row in range(30)]

    def loss_sum(rows):
        errors_B = (model(x_N3[list(rows)]).squeeze(-1) - y_N[list(rows)]) ** 2
        return (errors_B * torch.tensor([weights[row] for row in rows])).sum()

    return model, lengths, loss_sum, weights


def run(out, progress=None, *, model=None, made_by=None, seed=0, **changes):
    network, lengths, loss_sum, weights = model or toy()
    losses = fit(
        network, lengths, loss_sum, settings(**changes),
        Job("toy", out, made_by or MADE, seed, progress or Silent()), weights=weights,
    )  # fmt: skip
    return losses, [parameter.detach().clone() for parameter in network.parameters()]


def test_how_a_batch_is_cut_changes_nothing(tmp_path):
    whole, weights = run(tmp_path / "a", microbatch_tokens=10_000)
    for budget in (1, 13, 40):
        cut, cut_weights = run(tmp_path / str(budget), microbatch_tokens=budget)
        assert cut == pytest.approx(whole, **FIGURE)
        assert_weights(cut_weights, weights, rate=0.05, steps=8)


def test_a_step_is_the_weighted_mean_of_its_batch_and_one_step_of_adamw(tmp_path):
    model, lengths, loss_sum, weights = toy()
    reference, _, reference_sum, _ = toy()
    optimizer = torch.optim.AdamW(reference.parameters(), lr=0.05, weight_decay=0.0)
    loss = reference_sum(list(range(30))) / sum(weights)
    loss.backward()
    nn.utils.clip_grad_norm_(reference.parameters(), 1.0)
    optimizer.step()
    losses, trained = run(
        tmp_path, model=(model, lengths, loss_sum, weights), epochs=1.0, batch_size=30, schedule="constant",
        warmup=0.0,
    )  # fmt: skip
    assert losses == pytest.approx([loss.item()], **FORMULA)
    assert_weights(trained, reference.parameters(), rate=0.05, steps=1)


@pytest.mark.parametrize("after", [2, 3, 5])
def test_a_resumed_run_is_bit_identical(tmp_path, after):
    losses, weights = run(tmp_path / "whole")
    assert len(losses) == 8
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", Stop(after))
    counter = Stop()
    again, again_weights = run(tmp_path / "cut", counter)
    # What was reported before the interrupt and not yet in a checkpoint is done again.
    assert counter.started == ("train toy", 8, (after - 1) // 3 * 3)
    assert again == losses
    assert all(torch.equal(one, other) for one, other in zip(weights, again_weights, strict=True))
    drop_checkpoints(tmp_path / "cut")
    assert not (tmp_path / "cut" / "checkpoints").exists()


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path):
    run(tmp_path)
    with pytest.raises(RunMismatch, match="seed"):
        run(tmp_path, made_by=MADE | {"seed": 1})


def test_each_epoch_visits_every_example_once_in_batches_of_like_size():
    batches = batches_of(10, 4, 2.5, "key")
    assert [len(batch) for batch in batches] == [3, 3, 4, 3, 3, 4, 3, 3]
    first, second = ([row for batch in batches[start : start + 3] for row in batch] for start in (0, 3))
    assert sorted(first) == sorted(second) == list(range(10)) and first != second
    assert batches == batches_of(10, 4, 2.5, "key") != batches_of(10, 4, 2.5, "other")
    assert [sorted(batch) for batch in batches_of(3, 64, 2, "key")] == [[0, 1, 2]] * 2


def test_schedules_by_hand():
    # 10 steps, 2 of them warming up at 1/3 and 2/3.
    assert [rate_factor(step, 10, "constant", 0.2) for step in range(4)] == pytest.approx(
        [1 / 3, 2 / 3, 1, 1]
    )
    linear = [rate_factor(step, 10, "linear", 0.2) for step in range(2, 10)]
    assert linear == pytest.approx([1 - step / 8 for step in range(8)])
    assert rate_factor(6, 10, "cosine", 0.2) == pytest.approx(0.5)
    assert rate_factor(4, 10, "cosine", 0.2) == pytest.approx(0.5 + math.sqrt(0.5) / 2)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    model, lengths, loss_sum, weights = toy()

    def broken(rows):
        return loss_sum(rows) * (math.nan if 7 in rows else 1.0)

    with pytest.raises(GateFailed, match=r"loss is nan at step \d; lower train\.toy\.learning_rate"):
        run(tmp_path, model=(model, lengths, broken, weights))
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_weights_of_zero_are_a_bug(tmp_path):
    model, lengths, loss_sum, _ = toy()
    with pytest.raises(ValueError, match="positive, finite weight"):
        run(tmp_path, model=(model, lengths, loss_sum, [0.0] * 30))


class Notes(Silent):
    def __init__(self):
        self.texts = []

    def note(self, text):
        self.texts.append(text)


def test_a_single_step_is_told_with_what_gives_more(tmp_path):
    one, more = Notes(), Notes()
    run(tmp_path / "one", one, epochs=1.0, batch_size=30)
    run(tmp_path / "more", more, epochs=2.0, batch_size=30)
    assert one.texts == [
        "training toy takes a single step on 30 examples, so the model hardly changes; lower "
        "train.toy.batch_size or raise train.toy.epochs"
    ]
    assert more.texts == []


def test_each_pass_of_a_step_says_which_part_of_its_tokens_is_done(tmp_path):
    class Parts(Silent):
        def __init__(self):
            self.seen = []

        def part(self, stage, share):
            self.seen.append((stage, share))

    parts = Parts()
    network = nn.Linear(1, 1)
    fit(
        network, [30, 10, 10], lambda rows: network(torch.ones(len(rows), 1)).sum(),
        settings(epochs=1.0, microbatch_tokens=20), Job("toy", tmp_path, MADE, 0, parts),
    )  # fmt: skip
    # One step of two passes, the longest row first: 30 of its 50 tokens are done when the second begins.
    assert parts.seen == [("train toy", 0.0), ("train toy", 0.6)]
