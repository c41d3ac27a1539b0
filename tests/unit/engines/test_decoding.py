"""Drawing tokens for a whole batch: by hand, by the seed alone, and by the distribution they follow."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from constitute.types import SamplingParams

torch = pytest.importorskip("torch")
from constitute.engines.decoding import draw, draw_each, filtered, sample_batch  # noqa: E402

# Probabilities 0.5, 0.25, 0.15, 0.1 in an order that no sort leaves as it is.
P = [0.25, 0.1, 0.5, 0.15]
LOGITS = torch.tensor([P, P[::-1]]).log()


def test_a_number_falls_into_the_token_whose_share_it_is():
    plain = SamplingParams(temperature=1.0)
    for uniforms, tokens in (
        ([0.0, 0.0], [0, 0]),
        ([0.2499, 0.1499], [0, 0]),
        ([0.2501, 0.1501], [1, 1]),
        ([0.3501, 0.6501], [2, 2]),
        ([0.9999, 0.9999], [3, 3]),
    ):
        assert draw(LOGITS, plain, uniforms).tolist() == tokens
    assert draw(LOGITS, SamplingParams(temperature=0.0), [0.9, 0.9]).tolist() == [2, 1]


def test_filters_by_hand_row_by_row():
    two = filtered(LOGITS, SamplingParams(temperature=1.0, top_k=2))
    assert two[0].tolist() == pytest.approx([1 / 3, 0, 2 / 3, 0])
    assert two[1].tolist() == pytest.approx([0, 2 / 3, 0, 1 / 3])
    # 0.5 + 0.25 < 0.8, so the token that crosses it stays: 0.5, 0.25 and 0.15 of 0.9.
    most = filtered(LOGITS, SamplingParams(temperature=1.0, top_p=0.8))
    assert most[0].tolist() == pytest.approx([0.25 / 0.9, 0, 0.5 / 0.9, 0.15 / 0.9])
    assert most[1].tolist() == pytest.approx([0.15 / 0.9, 0.5 / 0.9, 0, 0.25 / 0.9])
    # At temperature 1/2 probabilities are squared: 0.25, 0.0625, 0.0225, 0.01 of 0.345.
    cold = filtered(LOGITS, SamplingParams(temperature=0.5))
    assert cold[0].tolist() == pytest.approx([0.0625 / 0.345, 0.01 / 0.345, 0.25 / 0.345, 0.0225 / 0.345])
    # What is filtered out is never drawn, at either end.
    assert draw(LOGITS, SamplingParams(temperature=1.0, top_k=1), [0.0, 0.999999]).tolist() == [2, 1]


def test_rows_with_settings_of_their_own_are_drawn_as_alone():
    rows = torch.cat([LOGITS, LOGITS, LOGITS])
    settings = [
        SamplingParams(temperature=temperature, top_k=top_k)
        for temperature, top_k in ((1.0, 0), (0.0, 0), (0.7, 2), (1.0, 0), (0.7, 2), (1.0, 1))
    ]
    uniforms = [0.3, 0.3, 0.6, 0.7, 0.2, 0.5]
    alone = [
        draw(rows[at : at + 1], one, [u]).item()
        for at, (one, u) in enumerate(zip(settings, uniforms, strict=True))
    ]
    assert draw_each(rows, settings, uniforms).tolist() == alone


class Markov:
    """A model whose next token depends on the last alone: `logits_VV` by the last token."""

    device = "cpu"

    def __init__(self):
        self.logits_VV = 2 * torch.randn(12, 12, generator=torch.Generator().manual_seed(3))

    def __call__(self, *, input_ids, attention_mask, position_ids, logits_to_keep, **_):
        assert attention_mask.shape[1] == int(position_ids[0, -1]) + 1 + int((attention_mask[0] == 0).sum())
        return SimpleNamespace(logits=self.logits_VV[input_ids[:, -logits_to_keep:]], past_key_values=None)


@pytest.fixture(scope="module")
def model():
    return Markov()


def sample(model, prompts, seeds, **settings):
    samplings = [SamplingParams(max_tokens=6, seed=seed, **settings) for seed in seeds]
    return sample_batch(
        model, prompts, samplings, ends=frozenset({2}), pad=0, limit=64, stopped=lambda row, tokens: False
    )


def test_a_seed_means_the_same_whoever_shares_the_batch(model):
    prompts = [[5, 6, 7], [8], [9, 10, 11, 4]]
    together = sample(model, prompts, [4, 5, 6])
    for at, prompt in enumerate(prompts):
        (alone,) = sample(model, [prompt], [4 + at])
        assert alone.tokens == together[at].tokens and alone.finish == together[at].finish
        assert alone.logprobs == pytest.approx(together[at].logprobs, abs=1e-5)
    assert sample(model, prompts, [14, 15, 16]) != together


def test_first_tokens_follow_the_model(model):
    """A binomial test for each token over 3,000 seeds."""
    n = 3000
    found = [row.tokens[0] for row in sample(model, [[5, 6]] * n, range(n), temperature=0.8)]
    p = (model.logits_VV[6] / 0.8).softmax(-1).tolist()
    for token, share in enumerate(p):
        assert abs(found.count(token) / n - share) < 4 * math.sqrt(share * (1 - share) / n), token
