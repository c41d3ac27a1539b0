"""score_batch: the numbers of unpadded passes, however few logits may be held at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tolerance import LOGPROB

from constitute.engines.decoding import score_batch

torch = pytest.importorskip("torch")
PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [12], [14, 15, 16, 17], [18, 19], [20, 21, 22]]
COMPLETIONS = [[30, 31, 32], [33] * 17, [34, 35], [36], [40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50]]


class Watched:
    """A model that keeps the shape of the logits of each pass."""

    def __init__(self, model: Any) -> None:
        self.model, self.config, self.device = model, model.config, model.device
        self.shapes: list[tuple[int, int, int]] = []

    def __call__(self, **given: Any) -> Any:
        out = self.model(**given)
        self.shapes.append(tuple(out.logits.shape))
        return out


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def expected(model: Any) -> list[list[float]]:
    found = []
    for prompt, completion in zip(PROMPTS, COMPLETIONS, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *completion]])).logits[0].double()
        scores = logits.log_softmax(-1)
        found.append([float(scores[len(prompt) + at - 1, token]) for at, token in enumerate(completion)])
    return found


@pytest.mark.parametrize("columns", [1, 2, 5, 17, 40, 10**6])
def test_few_logits_at_once_give_the_same_numbers(
    model: Any, expected: list[list[float]], columns: int
) -> None:
    watched = Watched(model)
    vocabulary = model.config.vocab_size
    found = score_batch(watched, PROMPTS, COMPLETIONS, pad=0, most=columns * vocabulary)
    for row, wanted in zip(found, expected, strict=True):
        assert row == pytest.approx(wanted, **LOGPROB)
    assert all(rows * kept <= columns for rows, kept, _ in watched.shapes)
    if columns == 10**6:
        assert watched.shapes == [(5, 17, vocabulary)]


def test_rows_of_like_length_share_a_pass(model: Any) -> None:
    watched = Watched(model)
    score_batch(watched, PROMPTS, COMPLETIONS, pad=0, most=17 * model.config.vocab_size)
    # 1, 2 and 3 tokens together; 11; 17.
    assert [shape[:2] for shape in watched.shapes] == [(3, 3), (1, 11), (1, 17)]
