"""What is said of rows that failed: a cut answer is led to the setting, another is asked again."""

from __future__ import annotations

import pytest

from constitute.pipeline.cut import after_failures

REMEDY = "begin NEW"
AGAIN = "the same command with --retry-failed asks them again"


@pytest.mark.parametrize(
    ("stage", "reasons", "said"),
    [
        (
            "generate",
            [("failed", "response was cut at 32 tokens", 12)],
            "12 rows were cut at 32 tokens, as they would be again; begin NEW --set generate.max_tokens=64, "
            "or --set generate.keep_truncated=true to keep cut answers",
        ),
        (
            "label",
            [("failed", "reason-ab was cut at 9 tokens", 2), ("abstain", "the two answers are equal", 4)],
            "2 rows were cut at 9 tokens, as they would be again; begin NEW --set label.reasoning_tokens=18",
        ),
        (
            "revise",
            [("failed", "thinking was cut at 9 tokens; raise revise.thinking_tokens", 1)],
            "1 rows were cut at 9 tokens, as they would be again; begin NEW --set revise.thinking_tokens=18",
        ),
        (
            "generate",
            [("failed", "response was cut at 32 tokens", 2), ("failed", "500 Oops", 3)],
            f"3 rows failed; {AGAIN}; 2 rows were cut at 32 tokens, as they would be again; begin NEW "
            "--set generate.max_tokens=64, or --set generate.keep_truncated=true to keep cut answers",
        ),
        (
            "generate",
            [("failed", "500 Oops", 3)],
            f"3 rows failed; {AGAIN}; where a setting is to blame, begin NEW",
        ),
    ],
)
def test_what_is_said_after_failures(stage, reasons, said):
    assert after_failures(stage, reasons, REMEDY) == said
