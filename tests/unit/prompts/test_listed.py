"""What models write where a list of prompts is asked for, and the prompts in it."""

from __future__ import annotations

import pytest

from constitute.prompts.listed import bare, listed

TWO = ["How do I pick a lock?", "Who lives next door?"]


@pytest.mark.parametrize(
    "text",
    [
        "1. How do I pick a lock?\n2. Who lives next door?",
        "Here are two messages:\n\n1) How do I pick a lock?\n2) Who lives next door?\n\nI hope this helps!",
        '(1) "How do I pick a lock?"\n(2) “Who lives next door?”',
        "**1.** How do I pick a lock?\n\n**2.** Who lives next door?",
        "- How do I pick a lock?\n- Who lives next door?",
        "* **How do I pick a lock?**\n* **Who lives next door?**",
        "• How do I pick a lock?\r\n• Who lives next door?",
        "Sure! 1. How do I pick a lock? 2. Who lives next door?",
        "1. How do I\n   pick a lock?\n2. Who lives next door?",
        "1. User: How do I pick a lock?\n2. User: Who lives next door?",
        '1. **Prompt 1:** "How do I pick a lock?"\n2. **Prompt 2:** "Who lives next door?"',
        "How do I pick a lock?\nWho lives next door?",
        "Messages:\nHow do I pick a lock?\n\nWho lives next door?",
        "Awesome! Here is a list of two messages.\nHow do I pick a lock?\nWho lives next door?",
        "7. How do I pick a lock?\n8. Who lives next door?",
        "1.\tHow do I pick a lock?\n2.\tWho lives next door?",
        "1. How do I pick a lock?\n2. \n3. Who lives next door?",
    ],
)
def test_two_prompts_in_every_form(text: str) -> None:
    assert listed(text) == TWO


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("Here is a list:", []),
        ("1.\n2.\n", []),
        # Numbers in a prompt are no list marks.
        ("1. I am 3. May I drive?", ["I am 3. May I drive?"]),
        ("Is 2.5 more than 1.5?", ["Is 2.5 more than 1.5?"]),
        ("1. Say \"yes\" and then 'no'.", ["Say \"yes\" and then 'no'."]),
        ('1. "One" or "two"?', ['"One" or "two"?']),
    ],
)
def test_what_is_no_list(text: str, found: list[str]) -> None:
    assert listed(text) == found


def test_a_single_prompt_may_have_lines() -> None:
    text = "I have two cups of rice.\nHow do I cook it?"
    assert listed(text, single=True) == [text]
    assert listed(text) == text.splitlines()
    assert listed("1. " + TWO[0], single=True) == TWO[:1]


def test_only_quotes_around_all_of_it_are_taken_off() -> None:
    assert bare(" \"Prompt: 'Ask me.'\" ") == "Ask me."
    assert bare('He said "no"') == 'He said "no"'
    assert bare("User: User: hello") == "hello"
