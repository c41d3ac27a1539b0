"""Which outputs that read the prefix cache hold the log-probabilities of a given answer."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from constitute.engines.vllm.params import holds_all

# Three tokens of context and two of an answer; the first place of a prompt predicts nothing.
TOKENS = (7, 8, 9, 20, 21)
ROWS = [None, {8: -1.0}, {9: -1.0}, {20: -2.0}, {21: -3.0}]


@pytest.mark.parametrize(
    ("cached", "enough"), [(0, True), (1, True), (2, True), (3, False), (4, False), (None, False)]
)
def test_a_cached_prefix_must_end_before_the_place_that_predicts_the_answer(
    cached: int | None, enough: bool
) -> None:
    output = SimpleNamespace(num_cached_tokens=cached, prompt_logprobs=ROWS)
    assert holds_all(output, TOKENS, 3) == enough


def test_a_place_that_was_never_written_is_seen_by_its_token() -> None:
    rows = [*ROWS[:3], {12345: 0.0}, ROWS[4]]
    assert not holds_all(SimpleNamespace(num_cached_tokens=0, prompt_logprobs=rows), TOKENS, 3)
    # What stands before the answer is not read.
    rows = [None, {5: 0.0}, {5: 0.0}, *ROWS[3:]]
    assert holds_all(SimpleNamespace(num_cached_tokens=2, prompt_logprobs=rows), TOKENS, 3)
