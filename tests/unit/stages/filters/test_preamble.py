"""Revisions that announce themselves are told from replies on any other subject."""

from __future__ import annotations

import pytest
from places import SHARED

from constitute.data.pairs import read_pairs
from constitute.stages.filters.preamble import preamble

HH = SHARED / "hh-rlhf" / "harmless-base-test-even.jsonl.gz"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Here is the revised reply:\n\nHi.", "Here is the revised reply:"),
        ("Here's a revised version of my response:\nHi.", "Here's a revised version of my response:"),
        ("Here’s the reply, reworded: Hi.", "Here’s the reply, reworded:"),
        ("Sure! Here's a rewritten response:\nHi.", "Sure! Here's a rewritten response:"),
        ("Certainly, here is a new reply: Hi.", "Certainly, here is a new reply:"),
        ("**Revised response:** Hi.", "**Revised response:"),
        ("Revised reply: Hi.", "Revised reply:"),
        ("### Rewritten Reply\nHi.", "### Rewritten Reply"),
        ("I have rewritten the reply to be kind:\n\nHi.", "I have rewritten the reply to be kind:"),
        ("Below is the improved answer.\n\nHi.", "Below is the improved answer."),
        ("Here is my response, revised to do no harm:\nHi.", "Here is my response, revised to do no harm:"),
        ("Of course. The following is an updated version of the answer:\nHi.",
         "Of course. The following is an updated version of the answer:"),
        ("I am sorry for my earlier reply. Here is a corrected one:\n\nHi.",
         "I am sorry for my earlier reply. Here is a corrected one:"),
    ],
)  # fmt: skip
def test_talk_about_the_revision_is_found_whole(text, said):
    assert preamble(text) == said


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Here is a recipe for bread:\nFlour and water.",
        "Here are three answers to your question:",
        "Here is a new version of Python: 3.13.",
        "Here is the updated version of the calendar:\nMonday",
        "The revised answer key is on page 3.",
        "I have a new answering machine. It rings.",
        "I have revised my opinion of this. The answer is no.",
        "A better answer is hard to find: people differ.",
        "New York: a city.",
    ],
)
def test_other_subjects_are_left_alone(text):
    assert preamble(text) == ""


@pytest.mark.skipif(not HH.is_file(), reason="hh-rlhf is not at ../shared/data/hh-rlhf")
def test_none_of_2312_answers_by_people_and_models_is_taken_for_one():
    pairs, _ = read_pairs(HH)
    assert [text for pair in pairs for text in (pair.a, pair.b) if preamble(text)] == []
