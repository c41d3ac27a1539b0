"""Sentences: where they end, and in linear time."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constitute.constitution.formats.sentences import sentences


def split(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Be good. Be brief.", ["Be good.", "Be brief."]),
        ("Stop! Why? Because…  I say.", ["Stop!", "Why?", "Because…", "I say."]),
        ("Say e.g. Paris or i.e. Rome. Go on.", ["Say e.g. Paris or i.e. Rome.", "Go on."]),
        ("Ask Dr. Smith of the U.S. Navy. He knows.", ["Ask Dr. Smith of the U.S. Navy.", "He knows."]),
        ("Write 3.5 spaces, not 4. 5 are too many.", ["Write 3.5 spaces, not 4.", "5 are too many."]),
        ("1. Be good. 2. Be brief.", ["1. Be good.", "2. Be brief."]),
        ("J. R. Jones said so. I agree.", ["J. R. Jones said so.", "I agree."]),
        ('She said "Stop." Then she left.', ['She said "Stop."', "Then she left."]),
        ('"Are you well?" she asked. I was.', ['"Are you well?" she asked.', "I was."]),
        (
            "Refuse (it harms. It always does.) and go. End.",
            ["Refuse (it harms. It always does.) and go.", "End."],
        ),
        ("(This is all. Of it.) And more.", ["(This is all. Of it.)", "And more."]),
        ("An open ( bracket. It ends none.", ["An open ( bracket.", "It ends none."]),
        ("Wrapped\nover lines. And\nmore.", ["Wrapped\nover lines.", "And\nmore."]),
        ("**Be good.** *Be brief.* Now.", ["**Be good.**", "*Be brief.*", "Now."]),
        (
            "Use v2.0.1 of node.js. It works... sometimes.",
            ["Use v2.0.1 of node.js.", "It works... sometimes."],
        ),
        ("正直に。短く。", ["正直に。", "短く。"]),
        ("without an end", ["without an end"]),
        ("  ", []),
    ],
)
def test_where_sentences_end(text: str, found: list[str]) -> None:
    assert split(text) == found


@given(st.text(st.sampled_from("aB1. !?()\"'\n…*")) | st.text())
def test_nothing_is_lost_and_white_space_lies_between(text: str) -> None:
    places = sentences(text)
    assert "".join("".join(split(text)).split()) == "".join(text.split())
    assert all(a[1] <= b[0] for a, b in pairwise(places))


@pytest.mark.parametrize("text", ["(" * 300_000 + ". A", "a." * 150_000, ". " * 150_000, "(a. A) " * 40_000])
def test_splitting_takes_linear_time(text: str) -> None:
    begun = time.process_time()
    sentences(text)
    assert time.process_time() - begun < 3
