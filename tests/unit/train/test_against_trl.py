"""The losses of pairs and of single answers beside those of TRL, on the same models and tokens."""

from types import SimpleNamespace

import pytest
import torch
from tolerance import tensors
from train_models import tiny_causal, word_tokenizer

from constitute.config.train import DPOConfig
from constitute.data.judged import JudgedAnswer
from constitute.data.pairs import PreferencePair
from constitute.train.common.batching import Batching
from constitute.train.common.models import Actor
from constitute.train.dpo import answer_logprobs, dpo_losses
from constitute.train.kto.answers import TokenAnswer
from constitute.train.kto.train import kto_losses, logprobs_of
from constitute.train.preference_losses import LOSSES, Answers
from constitute.train.reward.pairs import TokenPair

# Prompt, then two answers of unlike lengths, over 16 tokens.
ROWS = [
    ([5, 6], [7, 8, 9, 2], [10, 2]),
    ([11], [12, 2], [3, 4, 5, 6, 2]),
    ([9, 8, 7], [6, 5, 4, 2], [3, 2]),
    ([4, 4], [15, 2], [14, 13, 2]),
]
BIG = Batching(0, 1 << 20)
# Two ways to add up the same few numbers in fp32.
SAME = tensors({"rel": 1e-5, "abs": 1e-6})


def padded(sequences, starts):
    """TRL's batch: ids, attention and completion masks, padded on the right."""
    width = max(map(len, sequences))

    def rows(values, fill=0):
        return torch.tensor([[*each, *([fill] * (width - len(each)))] for each in values])

    return {
        "input_ids": rows(sequences),
        "attention_mask": rows([[1] * len(each) for each in sequences]),
        "completion_mask": rows(
            [[0] * start + [1] * (len(each) - start) for each, start in zip(sequences, starts, strict=True)]
        ),
    }


def models():
    """A policy and a reference that differ."""
    return tiny_causal(16), tiny_causal(16, seed=1)


def opened(trainer, settings, rows, folder, both=None, **options):
    """A trainer of TRL on the two models, whose data are a formality."""
    from datasets import Dataset

    policy, reference = both or models()
    tokenizer = word_tokenizer([f"w{n}" for n in range(16)], eos="w2", pad="w0")
    args = settings(
        output_dir=str(folder), bf16=False, use_cpu=True, report_to=[], per_device_train_batch_size=4,
        gradient_checkpointing=False, **options,
    )  # fmt: skip
    data = Dataset.from_list(rows)
    made = trainer(
        model=policy, ref_model=reference, args=args, train_dataset=data, processing_class=tokenizer
    )
    made.model.eval()
    return made


@pytest.fixture(scope="module")
def pairs_of_trl(tmp_path_factory):
    from trl import DPOConfig as Settings
    from trl import DPOTrainer

    row = {"prompt": "w5 w6", "chosen": " w7", "rejected": " w8"}
    return opened(DPOTrainer, Settings, [row] * 4, tmp_path_factory.mktemp("dpo"), beta=0.3)


def our_pairs():
    return [
        TokenPair(prompt + one, prompt + other, len(prompt), PreferencePair((), "a", "b", 1.0))
        for prompt, one, other in ROWS
    ]


def ours(**settings):
    """Our mean loss of the four pairs, and the log-probabilities of both sides under both models."""
    (policy, reference), pairs = models(), our_pairs()
    known = answer_logprobs(Actor(reference), pairs, BIG)
    loss_sum = dpo_losses(Actor(policy), known, pairs, DPOConfig(**settings), 0)
    return loss_sum(range(4)) / 4, answer_logprobs(Actor(policy), pairs, BIG), known


def theirs(trainer, loss):
    trainer.loss_types, trainer.loss_weights = [loss], [1.0]
    sides = [[prompt + row[at] for prompt, row in ((r[0], r[1:]) for r in ROWS)] for at in (0, 1)]
    starts = [len(row[0]) for row in ROWS]
    return trainer.compute_loss(trainer.model, padded(sides[0] + sides[1], starts * 2))


def test_dpo_is_trl_s(pairs_of_trl):
    torch.testing.assert_close(ours(loss="sigmoid", beta=0.3)[0], theirs(pairs_of_trl, "sigmoid"), **SAME)


def test_ipo_is_trl_s_but_for_its_mean_over_tokens(pairs_of_trl):
    # TRL divides each log-ratio by the answer's tokens; ours are sums, as equation 17 of the paper has them.
    _, now, known = ours(loss="ipo", beta=0.3)
    lengths = [torch.tensor([float(len(row[at])) for row in ROWS]) for at in (1, 2)]
    chosen = Answers(now.chosen_N / lengths[0], known.chosen_N / lengths[0], lengths[0])
    rejected = Answers(now.rejected_N / lengths[1], known.rejected_N / lengths[1], lengths[1])
    found = LOSSES["ipo"].loss(chosen, rejected, DPOConfig(loss="ipo", beta=0.3)).mean()
    torch.testing.assert_close(found, theirs(pairs_of_trl, "ipo").detach(), **SAME)


def means():
    """Log-probability per token of both sides, as TRL's CPO and ORPO trainers take them."""
    _, now, _ = ours()
    return [
        side / torch.tensor([float(len(row[at])) for row in ROWS])
        for at, side in ((1, now.chosen_N), (2, now.rejected_N))
    ]


def trl_loss(trainer, method, **settings):
    this = SimpleNamespace(accelerator=SimpleNamespace(device="cpu"), **settings)
    return getattr(trainer, method)(this, *means())


def test_simpo_is_trl_s():
    from trl.experimental.cpo import CPOTrainer

    # The gap is TRL's simpo_gamma, which it divides by beta before it multiplies by it.
    settings = {"loss_type": "simpo", "simpo_gamma": 0.7, "beta": 2.0, "alpha": 0.0, "label_smoothing": 0.0}
    found = trl_loss(CPOTrainer, "cpo_loss", **settings)[0].mean()
    torch.testing.assert_close(ours(loss="simpo", beta=2.0, gap=0.7)[0].detach(), found, **SAME)


def test_orpo_s_odds_ratio_is_trl_s():
    from trl.experimental.orpo import ORPOTrainer

    ratio = trl_loss(ORPOTrainer, "odds_ratio_loss", beta=0.2)[0]
    # TRL's imitation is a mean over all tokens of the batch; ours of each answer, as equation 2 of the paper.
    expected = (-means()[0] - ratio).mean()
    torch.testing.assert_close(ours(loss="orpo", beta=0.2)[0].detach(), expected, **SAME)


@pytest.mark.parametrize("swapped", [False, True])
def test_kto_is_trl_s(tmp_path, swapped):
    from trl import KTOConfig, KTOTrainer

    def both():
        # The reference point is clamped at 0: the two orders give one on either side of it.
        return models()[::-1] if swapped else models()

    labels = [True, False, False, True]
    row = {"prompt": "w5 w6", "completion": " w7", "label": True}
    data = [row, row | {"label": False}] * 2
    weights = {"desirable_weight": 1.3, "undesirable_weight": 0.8}
    trainer = opened(KTOTrainer, KTOConfig, data, tmp_path, both(), beta=0.3, **weights)
    policy, reference = both()
    own = [prompt + answer for prompt, answer, _ in ROWS]
    # As TRL's collator pairs a batch: each prompt with the answer of the row before.
    shifted = [ROWS[at][0] + ROWS[at - 1][1] for at in range(4)]
    starts = [len(row[0]) for row in ROWS]
    batch = padded(own, starts) | {f"KL_{name}": each for name, each in padded(shifted, starts).items()}
    found = trainer.compute_loss(trainer.model, batch | {"label": torch.tensor(labels)})
    answers = [
        TokenAnswer(ids, other, start, JudgedAnswer((), "a", float(label)))
        for ids, other, start, label in zip(own, shifted, starts, labels, strict=True)
    ]
    config = DPOConfig(loss="kto", beta=0.3, kto_desirable=1.3, kto_undesirable=0.8)
    known = logprobs_of(Actor(reference), answers, BIG)
    measure, loss_sum = kto_losses(Actor(policy), known, answers, config, 0)
    with torch.no_grad():
        measure(range(4))
    torch.testing.assert_close(loss_sum(range(4)) / 4, found, **SAME)
