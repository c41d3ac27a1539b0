"""What is said of rows that failed: a cut answer is led to the setting, another is asked again."""

from __future__ import annotations

import pytest

from constitute.pipeline.cut import after_abstentions, after_failures, blames

REMEDY = "begin NEW"
AGAIN = "again asks them again"


@pytest.mark.parametrize(
    ("stage", "reasons", "said"),
    [
        (
            "generate",
            [("failed", "response was cut at 32 tokens", 12)],
            "12 rows were cut at 32 tokens, as they would be again; again generate.max_tokens=64 asks them "
            "alone, with more, or --set generate.keep_truncated=true to keep cut answers",
        ),
        (
            "label",
            [("failed", "reason-ab was cut at 9 tokens", 2), ("abstain", "the two answers are equal", 4)],
            "2 rows were cut at 9 tokens, as they would be again; again label.reasoning_tokens=18 asks them "
            "alone, with more",
        ),
        (
            "revise",
            [("failed", "thinking was cut at 9 tokens; raise revise.thinking_tokens", 1)],
            "1 rows were cut at 9 tokens, as they would be again; again revise.thinking_tokens=18 asks them "
            "alone, with more",
        ),
        (
            "generate",
            [("failed", "response was cut at 32 tokens", 2), ("failed", "500 Oops", 3)],
            f"3 rows failed; {AGAIN}; 2 rows were cut at 32 tokens, as they would be again; again "
            "generate.max_tokens=64 asks them alone, with more, or --set "
            "generate.keep_truncated=true to keep cut answers",
        ),
        (
            "generate",
            [("failed", "500 Oops", 3)],
            f"3 rows failed; {AGAIN}; where a setting is to blame, begin NEW",
        ),
        (
            "generate",
            [("failed", "http://h:1 gave no answer for 60 s 5 times", 3)],
            "3 rows failed; again engine.timeout_s=120 asks them again; "
            "where a setting is to blame, begin NEW",
        ),
    ],
)
def test_what_is_said_after_failures(stage, reasons, said):
    assert after_failures(stage, reasons, REMEDY, again) == said


def again(sets):
    return " ".join(["again", *sets])


LOW = "P(A) + P(B) = {} is below 0.1 under kind, order AB"


def test_pairs_of_low_mass_are_led_to_the_mass_that_takes_half_of_them():
    reasons = [("abstain", LOW.format("0.02"), 2), ("abstain", LOW.format("0.05"), 1)]
    said = after_abstentions("label", reasons, again)
    assert said.startswith("3 pairs abstained") and "again label.min_mass=0.0198 takes" in said
    assert after_abstentions("label", [("abstain", "the two answers are equal", 3)], again) == ""
    assert after_abstentions("generate", reasons, again) == ""


@pytest.mark.parametrize(
    ("stage", "reason", "key", "values"),
    [
        ("generate", "response was cut at 32 tokens", "max_tokens", {31: False, 32: False, 33: True}),
        ("generate", "response was cut at 32 tokens", "keep_truncated", {False: False, True: True}),
        (
            "revise",
            "thinking was cut at 9 tokens; raise revise.thinking_tokens",
            "thinking_tokens",
            {10: True},
        ),
        ("label", LOW.format("0.02"), "min_mass", {0.1: False, 0.2: False, 0.05: True}),
        ("label", "P(1) + ... + P(10) = 0.2 of 8 answers is below 0.3 under b", "min_mass", {0.2: True}),
    ],
)
def test_a_reason_blames_one_setting_and_says_which_values_may_help(stage, reason, key, values):
    blamed = blames(stage, reason)
    assert {value: blamed[key](value) for value in values} == values
    assert "temperature" not in blamed and blames(stage, "500 Oops") == {}
