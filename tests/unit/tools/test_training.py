"""Pocket's training: packed trees give the losses of their separate conversations, Muon is orthogonal."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from constitute.packaged import model_path
from tools.pocket import corpus, corpus_evals, mixes, training
from tools.pocket.training import Encoder, Recipe

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(f"{model_path('pocket')}/tokenizer.json")


def test_a_packed_tree_gives_the_losses_of_its_conversations_apart(tokenizer: Any) -> None:
    recipe = replace(Recipe(), hidden_size=32, intermediate_size=64, layers=2, heads=2, user_weight=0.3)
    model = training.build_model(recipe, tokenizer).eval()
    rng = random.Random(3)
    trees = [corpus.judge_tree(rng), corpus.assistant_tree(rng), corpus_evals.gate_tree(rng)]
    encoder = Encoder(tokenizer, recipe.user_weight)
    pieces = [encoder.piece(tree) for tree in trees]
    rows = training._stack([pieces], 0)
    batch = training.as_batch(rows, slice(0, 1))
    with torch.inference_mode():
        packed = training._loss(model, batch).item()
        total = weight_sum = 0.0
        for tree, piece in zip(trees, pieces, strict=True):
            shared = piece.branches.count(0)
            for index, dialogue in enumerate(tree):
                ids, weights = encoder.dialogue(dialogue)
                logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
                losses = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none")
                for position, loss in enumerate(losses.tolist(), 1):
                    trunk_again = index > 0 and position < shared
                    into_branch = len(tree) > 1 and position == shared
                    if not trunk_again and not into_branch:
                        total += weights[position] * loss
                        weight_sum += weights[position]
    assert packed == pytest.approx(total / weight_sum, rel=2e-3)


def test_padding_carries_no_weight_and_rows_are_nearly_full(tokenizer: Any) -> None:
    rng = random.Random(4)
    rows = training.pack(training.draw_pieces(rng, Encoder(tokenizer, 0.1), mixes.TURNED_MIX), 20_000, 0)
    assert rows.ids.shape == (40, 512)
    assert np.all(rows.weights[rows.segments < 0] == 0)
    assert (rows.segments >= 0).mean() > 0.9


def test_the_same_seed_packs_the_same_corpus(tokenizer: Any) -> None:
    first, second = (
        training.pack(
            training.draw_pieces(random.Random(5), Encoder(tokenizer, 0.1), mixes.TURNED_MIX), 5_000, 0
        )
        for _ in range(2)
    )
    assert np.array_equal(first.ids, second.ids)
    assert np.array_equal(first.weights, second.weights)


def test_the_rate_warms_up_stays_level_and_falls_to_zero() -> None:
    recipe = replace(Recipe(), warmup_steps=10, decay_share=0.5)
    assert training.rate(0, 100, recipe) == pytest.approx(0.1)
    assert training.rate(30, 100, recipe) == 1.0
    assert training.rate(75, 100, recipe) == pytest.approx(0.5)
    assert training.rate(99, 100, recipe) == pytest.approx(0.02)


def test_orthogonalised_updates_have_singular_values_near_one() -> None:
    from tools.pocket.muon import orthogonalise

    torch.manual_seed(0)
    for shape in ((3, 24, 64), (3, 64, 24)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
        assert values.min() > 0.5 and values.max() < 1.3
