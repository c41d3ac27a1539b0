"""Rules read from what a model says, and what is left out of it."""

from __future__ import annotations

from unit.editing.recover.test_figures import case

from constitute.editing.recover.propose import question_of, rules_of


def test_rules_are_the_marked_lines() -> None:
    said = [
        "Here are rules.\nRule: say how sure it is.\n2. **Rule 2:** Name the risks of a drug.\n- too short",
        "Rule: The other prompt: not my mama.\n"
        'Rule 1: "Say how sure it is."\nRule: The preferred reply is longer.\nRules for them all:',
    ]
    named, refused = rules_of(said, [])
    assert named == {"Say how sure it is.": 2, "Name the risks of a drug.": 1}
    assert refused == {
        "a line that is no item of a list": 1,
        "fewer than 3 words": 1,
        "speaks of the pairs shown, not of replies to come": 2,
        "asks or announces and demands nothing": 1,
    }


def test_near_rules_count_together_and_known_ones_are_left_out() -> None:
    said = [
        "Rule: Keep every reply short and simple.",
        "Rule: Keep each reply short and simple.\nRule: Admit every doubt about medicine doses.",
    ]
    named, refused = rules_of(said, ["Admit each doubt about medicine doses."])
    assert named == {"Keep every reply short and simple.": 2}
    assert refused == {"says what a principle says already": 1}


def test_only_the_most_often_named_are_tried() -> None:
    words = [letter * 3 for letter in "abcdefghijklmn"]
    named, refused = rules_of(["\n".join(f"Rule: Never praise {word} too much" for word in words)], [])
    assert len(named) == 12 and refused == {"beyond the 12 most often named": 2}


def test_hostile_lines() -> None:
    named, refused = rules_of(["Rule: do\x1b[31m not say this\nRule: " + "word " * 50 + "\nRule:\n1.\n"], [])
    assert named == {}
    assert refused["holds a control character"] == 1 and refused["more than 40 words"] == 1


def test_the_question_names_the_preferred_reply_whichever_is_a() -> None:
    text = question_of([case("q", first=False, a="bad\nanswer", b="good " * 400)])
    assert "they preferred: good good" in text and "The other reply: bad answer" in text
    assert text.count("good") < 150 and "{{" not in text
