"""The reward model by hand: its losses, its ensembles, and its scores against transformers' own."""

import json
import math
import random
from dataclasses import replace

import pytest
import torch
from tolerance import FORMULA, LOGPROB, tensors
from train_models import tiny_causal

from constitute.config.train import RewardConfig
from constitute.data.pairs import PreferencePair
from constitute.errors import UsageError
from constitute.train.common.batching import Batching
from constitute.train.reward.losses import pair_losses
from constitute.train.reward.model import (
    Normalisation,
    RewardModel,
    combined,
    normalisation,
    raw_scores,
    score_head,
    value_head_of,
)
from constitute.train.reward.pairs import (
    TokenPair,
    bootstrap_counts,
    margin,
    target,
)
from constitute.types import Message

TURN = (Message(role="user", content="ask"),)


def classifier(heads=1, seed=0):
    from transformers import LlamaForSequenceClassification

    config = tiny_causal(32, seed=seed).config
    config.num_labels, config.pad_token_id = heads, 0
    torch.manual_seed(seed)
    model = LlamaForSequenceClassification(config).eval()
    torch.nn.init.normal_(model.score.weight)
    return model


def row(prob=0.9, **changes):
    return PreferencePair(TURN, "good", "bad", prob, **changes)


def token_pairs(n, probs=None, seed=0, **changes):
    rng = random.Random(seed)
    sides = [[rng.randrange(3, 32) for _ in range(rng.randrange(4, 30))] for _ in range(2 * n)]
    probs = probs or [rng.random() for _ in range(n)]
    return [TokenPair(sides[i], sides[n + i], 2, row(probs[i], **changes)) for i in range(n)]


def loss_of(pairs, config, heads=1, rows=None):
    model = classifier(heads)
    loss_sum = pair_losses(model, model.score, pairs, config, 0, seed=0)
    with torch.no_grad():
        return loss_sum(rows or list(range(len(pairs)))).item(), _differences(model, pairs)


def _differences(model, pairs):
    """r_chosen - r_rejected by the classifier's own forward pass, one unpadded sequence at a time."""

    def score(side):
        return model(torch.tensor([side])).logits[0].double()

    with torch.no_grad():
        return [score(pair.chosen) - score(pair.rejected) for pair in pairs]


def _cross_entropy(d, p):
    return -p * math.log(1 / (1 + math.exp(-d))) - (1 - p) * math.log(1 / (1 + math.exp(d)))


@pytest.mark.parametrize("labels", ["soft", "hard", "clamped"])
def test_loss_is_the_cross_entropy_of_the_models_own_scores(labels):
    pairs = token_pairs(5)
    loss, differences = loss_of(pairs, RewardConfig(labels=labels))
    by_hand = sum(
        _cross_entropy(d.item(), target(pair.row.chosen_prob, labels))
        for d, pair in zip(differences, pairs, strict=True)
    )
    assert loss == pytest.approx(by_hand, **LOGPROB)


def test_margin_is_what_the_likelier_side_must_win_by():
    pairs = token_pairs(2, [0.9, 0.2], margin=0.75)
    assert [margin(pair.row) for pair in pairs] == [0.75, -0.75]
    loss, (first, second) = loss_of(pairs, RewardConfig(labels="hard", margin=True))
    # Llama 2, equation 2, for either side: -log sigmoid(r_better - r_worse - m).
    by_hand = _cross_entropy(first.item() - 0.75, 1.0) + _cross_entropy(-second.item() - 0.75, 1.0)
    assert loss == pytest.approx(by_hand, **LOGPROB)
    unused, _ = loss_of(pairs, RewardConfig(labels="hard"))
    plain = _cross_entropy(first.item(), 1.0) + _cross_entropy(-second.item(), 1.0)
    assert unused == pytest.approx(plain, **LOGPROB)


def test_weights_and_rows():
    pairs = token_pairs(4)
    weighted = [
        replace(pair, row=replace(pair.row, weight=w)) for pair, w in zip(pairs, (2, 1, 0.5, 3), strict=True)
    ]
    loss, differences = loss_of(weighted, RewardConfig(), rows=[3, 0])
    by_hand = 3 * _cross_entropy(differences[3].item(), pairs[3].row.chosen_prob)
    by_hand += 2 * _cross_entropy(differences[0].item(), pairs[0].row.chosen_prob)
    assert loss == pytest.approx(by_hand, **LOGPROB)


def test_each_head_learns_from_its_own_resample():
    pairs = token_pairs(6)
    loss, differences = loss_of(pairs, RewardConfig(heads=3), heads=3)
    counts = bootstrap_counts(6, 3, seed=0)
    by_hand = sum(
        counts[head][i] * _cross_entropy(differences[i][head].item(), pairs[i].row.chosen_prob) / 3
        for i in range(6)
        for head in range(3)
    )
    assert loss == pytest.approx(by_hand, **LOGPROB)


def test_no_gradient_reaches_a_head_from_pairs_it_has_not_drawn():
    pairs = token_pairs(6)
    counts = bootstrap_counts(6, 2, seed=0)
    unseen = next(i for i in range(6) if counts[0][i] == 0 and counts[1][i] > 0)
    model = classifier(2)
    pair_losses(model, model.score, pairs, RewardConfig(heads=2), 0, seed=0)([unseen]).backward()
    assert model.score.weight.grad[0].abs().max() == 0 and model.score.weight.grad[1].abs().max() > 0


def test_an_ensemble_combines_by_hand():
    raw = torch.tensor([[3.0, 10.0], [1.0, -10.0]])
    base = Normalisation((1.0, 0.0), (2.0, 10.0))
    # Normalised: (1, 1) and (0, -1).
    assert combined(raw, base).tolist() == pytest.approx([1.0, -0.5], **FORMULA)
    assert combined(raw, replace(base, combine="min")).tolist() == pytest.approx([1.0, -1.0], **FORMULA)
    pessimistic = replace(base, combine="pessimistic", penalty=0.6)
    assert combined(raw, pessimistic).tolist() == pytest.approx([1.0, -0.5 - 0.6 * 0.5], **FORMULA)


def test_normalisation_goes_through_the_configuration_and_one_form_replaces_the_other():
    config = classifier().config
    several = Normalisation((1.0, 2.0), (3.0, 4.0), "min", 0.5)
    several.write(config)
    assert normalisation(config) == several and not hasattr(config, "mean")
    assert json.loads(config.to_json_string())["score_means"] == [1.0, 2.0]
    Normalisation((0.5,), (2.0,)).write(config)
    assert (config.mean, config.std) == (0.5, 2.0) and not hasattr(config, "score_means")
    assert normalisation(config) == Normalisation((0.5,), (2.0,))


@pytest.mark.parametrize("combine", ["mean", "pessimistic", "min"])
def test_a_saved_ensemble_scores_alike_here_and_in_transformers(tmp_path, combine):
    from transformers import AutoModelForSequenceClassification

    model = classifier(3)
    normal = Normalisation((0.1, -0.2, 0.3), (1.0, 2.0, 0.5), combine, 0.5)
    normal.write(model.config)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert loaded.config.num_labels == 3
    sequences = [side for pair in token_pairs(6, seed=3) for side in (pair.chosen, pair.rejected)]
    ours = RewardModel(loaded, "saved", torch.device("cpu")).scores(sequences, Batching(0, 64))
    width = max(map(len, sequences))
    padded = torch.tensor([side + [0] * (width - len(side)) for side in sequences])
    mask = torch.tensor([[1] * len(side) + [0] * (width - len(side)) for side in sequences])
    with torch.no_grad():
        theirs = combined(loaded(padded, attention_mask=mask).logits, normal)
    assert ours == pytest.approx(theirs.tolist(), **LOGPROB)


@pytest.mark.parametrize("heads", [1, 3])
def test_a_critic_starts_as_the_mean_of_the_normalised_heads(heads):
    model = classifier(heads)
    means, stds = (0.1, -0.2, 0.3)[:heads], (1.0, 2.0, 0.5)[:heads]
    Normalisation(means, stds, "min" if heads > 1 else "mean").write(model.config)
    states = torch.randn(5, 32)
    expected = ((model.score(states) - torch.tensor(means)) / torch.tensor(stds)).mean(dim=1)
    torch.testing.assert_close(value_head_of(model, "toy")(states).squeeze(-1), expected, **tensors(LOGPROB))


def test_a_classifier_that_is_no_reward_model_is_refused():
    with pytest.raises(UsageError, match="toy is no reward model: it needs one output per sequence"):
        RewardModel(classifier(2), "toy", torch.device("cpu"))
    with pytest.raises(UsageError, match="needs 4 outputs"):
        score_head(classifier(2), "toy", 4)


def test_padding_and_grouping_do_not_change_a_score():
    model = classifier(2)
    sequences = [side for pair in token_pairs(20, seed=5) for side in (pair.chosen, pair.rejected)]
    alone = raw_scores(model, model.score, sequences, Batching(0, 1))
    torch.testing.assert_close(
        raw_scores(model, model.score, sequences, Batching(0, 4096)), alone, **tensors(LOGPROB)
    )
    # A real token that happens to be the pad token is still the last one.
    ends = [[*sequence, 0] for sequence in sequences]
    with torch.no_grad():
        hidden = [model.model(torch.tensor([end])).last_hidden_state[0, -1] for end in ends]
        expected = model.score(torch.stack(hidden))
    torch.testing.assert_close(
        raw_scores(model, model.score, ends, Batching(0, 4096)), expected, **tensors(LOGPROB)
    )
