"""KTO by hand: the loss, its reference point, whose answers measure it, and what is refused."""

import json
import math
import random
from dataclasses import replace

import pytest
import torch
from tolerance import FORMULA, GRADIENT, tensors
from train_models import tiny_causal, word_tokenizer
from unit.train.test_dpo import alone

from constitute.config.train import DPOConfig
from constitute.data.judged import JudgedAnswer
from constitute.errors import DataError
from constitute.progress import Silent
from constitute.train.common.batching import Batching
from constitute.train.common.models import Actor
from constitute.train.kto.answers import AnswerSplit, TokenAnswer, check_both_kinds, other_answers
from constitute.train.kto.train import (
    AnswerLogprobs,
    held_out_figures,
    kto,
    kto_losses,
    logprobs_of,
    train_kto,
)
from constitute.types import Message


def sig(x):
    return 1 / (1 + math.exp(-x))


def test_the_loss_by_hand():
    # Log-ratios 2 and -1 at a point of 0.5 and beta 0.5: gains 0.75 and -0.75.
    config = DPOConfig(loss="kto", beta=0.5, kto_desirable=1.5, kto_undesirable=0.8)
    ratios, point = torch.tensor([2.0, -1.0, 2.0]), torch.tensor(0.5)
    found = kto(ratios, torch.tensor([1.0, 0.0, 0.25]), point, config)
    by_hand = [1.5 * (1 - sig(0.75)), 0.8 * (1 - sig(0.75))]
    by_hand.append(0.25 * 1.5 * (1 - sig(0.75)) + 0.75 * 0.8 * (1 - sig(-0.75)))
    assert found.tolist() == pytest.approx(by_hand, **FORMULA)


def token_answers(n):
    """Answers of unlike lengths, weights 1, 2, 3, 1, ..."""
    rng = random.Random(0)

    def words(most):
        return [rng.randrange(3, 32) for _ in range(rng.randrange(1, most))]

    found = []
    for at in range(n):
        prompt = words(6)
        row = JudgedAnswer((), "a", rng.random(), 1.0 + at % 3)
        found.append(TokenAnswer(prompt + words(12), prompt + words(12), len(prompt), row))
    return found


@pytest.mark.parametrize("swapped", [False, True])
def test_the_whole_loss_by_hand_however_it_is_cut(swapped):
    model, reference, answers = tiny_causal(32), tiny_causal(32, seed=1), token_answers(7)
    if swapped:
        # The reference point is at 0 for one of the two orders.
        model, reference = reference, model
    known = logprobs_of(Actor(reference), answers, Batching(0, 1 << 20))

    def ratio(ids, start):
        return alone(model, ids, start) - alone(reference, ids, start)

    moved = [ratio(answer.mismatched, answer.prompt_length) for answer in answers]
    point = max(0.0, sum(moved) / 7)
    expected = 0.0
    for answer in answers:
        gain = 0.3 * (ratio(answer.ids, answer.prompt_length) - point)
        p = answer.row.desirable_prob
        expected += answer.row.weight * (p * sig(-gain) + (1 - p) * sig(gain))
    gradients = []
    for budget in (1, 1 << 20):
        config = DPOConfig(loss="kto", beta=0.3, microbatch_tokens=budget)
        measure, loss_sum = kto_losses(Actor(model), known, answers, config, 0)
        with torch.no_grad():
            measure(range(7))
        model.zero_grad()
        parts = [loss_sum([4, 1]), loss_sum([0, 2, 3, 6, 5])]
        assert sum(part.item() for part in parts) == pytest.approx(expected, rel=1e-4)
        sum(parts).backward()
        gradients.append(model.lm_head.weight.grad.clone())
    torch.testing.assert_close(*gradients, **tensors(GRADIENT))


def judged(*pairs):
    return [JudgedAnswer((Message(role="user", content=q),), a, 1.0) for q, a in pairs]


def test_each_prompt_is_measured_with_answers_of_the_next():
    rows = judged(("1", "a"), ("1", "b"), ("2", "c"), ("3", "d"), ("3", "e"), ("3", "f"))
    assert other_answers(rows) == ["c", "c", "d", "a", "b", "a"]
    assert other_answers(judged(("1", "a"), ("1", "b"), ("1", "c"))) == ["b", "c", "a"]


class Notes(Silent):
    def __init__(self):
        self.said = []

    def note(self, sentence):
        self.said.append(sentence)


def split_of(*probs):
    rows = [TokenAnswer([1, 2], [1, 2], 1, JudgedAnswer((), "a", prob)) for prob in probs]
    return AnswerSplit(rows, [], 1, 2, 3)


@pytest.mark.parametrize(
    ("probs", "says"),
    [
        (
            (1.0, 1.0),
            "KTO needs answers of both kinds, and all 2 to train on are desirable (1 are longer than",
        ),
        ((0.0,), "all 1 to train on are undesirable"),
        ((), "no answer is left to train on: 1 are longer than 2048 tokens, 2 have weight 0, 3 are neither"),
    ],
)
def test_one_kind_alone_is_refused(probs, says):
    with pytest.raises(DataError) as told:
        check_both_kinds(split_of(*probs), DPOConfig(loss="kto"), Silent())
    assert says in str(told.value)


def test_a_kind_that_outweighs_the_other_is_said():
    notes = Notes()
    check_both_kinds(split_of(1.0, 0.0, 0.5, 0.5), DPOConfig(loss="kto"), notes)
    assert notes.said == []
    check_both_kinds(split_of(1.0, 0.0, 0.0, 0.0), DPOConfig(loss="kto"), notes)
    assert notes.said == [
        "desirable answers count 0.33 times as much as undesirable ones in all (1 and 3); KTO's authors keep "
        "this from 1 to 1.5: set train.dpo.kto_desirable=3"
    ]
    check_both_kinds(split_of(1.0, 0.0, 0.0, 0.0), DPOConfig(loss="kto", kto_desirable=3.0), notes)
    assert len(notes.said) == 1


@pytest.mark.parametrize(
    ("good", "bad", "says"),
    [
        (20, 20, ""),
        (0, 0, ""),
        (19, 40, "are of 19 desirable and 40 undesirable answers, and below 20 of a kind they may be chance"),
        (3, 0, "no undesirable answer is among the 3 held out, so the held-out figures do not show whether"),
        (0, 50, "no desirable answer is among the 50 held out"),
    ],
)
def test_few_held_out_answers_or_one_kind_are_said_with_their_number(good, bad, says):
    held = split_of(*[1.0] * good, *[0.0] * bad).train
    split = replace(split_of(1.0, 0.0), held_out=held)
    assert says in split.doubt and bool(says) == bool(split.doubt)
    counts = split.counts()
    assert (counts["answers_held_out_desirable"], counts["answers_held_out_undesirable"]) == (good, bad)


def test_the_summary_says_so_too(tmp_path):
    folder, data = tmp_path / "start", tmp_path / "answers.jsonl"
    tiny_causal(vocab=9, width=16, positions=64).save_pretrained(folder)
    template = "{% for m in messages %}{{ m['content'] + ' </s> ' }}{% endfor %}"
    words = [f"w{k}" for k in range(6)] + ["</s>", "<pad>", "new"]
    word_tokenizer(words, eos="</s>", pad="<pad>", template=template).save_pretrained(folder)
    rows = [{"prompt": f"w{k % 4}", "response": f"w{k % 3}", "label": k % 2 == 0} for k in range(8)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    notes, config = Notes(), DPOConfig(loss="kto", held_out=0.25, batch_size=4, max_length=32)
    summary = train_kto(data, str(folder), tmp_path / "out", config, seed=0, progress=notes)
    assert summary["answers_held_out"] == 2 and "held out" in summary["held_out_doubt"]
    # Whoever shows the summary says it, once.
    assert summary["held_out_doubt"] not in notes.said


def test_held_out_figures_by_hand():
    after = AnswerLogprobs(torch.tensor([-1.0, -4.0, -2.0]), torch.tensor([-3.0, -3.0, -3.0]))
    before = AnswerLogprobs(torch.tensor([-3.0, -3.0, -2.0]), torch.tensor([-3.5, -3.5, -3.5]))
    rows = [JudgedAnswer((), "a", prob) for prob in (0.9, 0.2, 0.8)]
    figures = held_out_figures(after, before, rows, seed=0)
    # Log-ratios 2, -1, 0 around a point of 0.5: the last desirable answer stays under it.
    assert figures["reference_point"] == pytest.approx(0.5)
    assert (figures["accuracy"].value, figures["accuracy"].n) == (pytest.approx(2 / 3), 3)
    assert figures["log_ratio_desirable"].value == pytest.approx(1.0)
    assert figures["log_ratio_undesirable"].value == pytest.approx(-1.0)
