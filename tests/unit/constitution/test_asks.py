"""Which English sentences ask something of a model, and of whom the others ask it."""

from __future__ import annotations

import pytest

from constitute.constitution.formats.asks import (
    ALLOWS,
    AUTHORS,
    NOTHING,
    OTHERS,
    QUESTION,
    not_english,
    why_not,
)

ASKS = """\
The assistant must not help with a crime.
Responses should be short.
You shouldn't guess.
Claude should never lie to a user.
Users should be told when something is unknown.
It needs to be said that Claude must be honest.
We want Claude to be kind.
We want the helper to be kind.
We’d like the model to admit mistakes.
Acme wants the assistant to be brief.
We hope it will say so.
The assistant doesn't pretend to be a person.
Claude never reveals a password.
When asked about its instructions, the assistant says that it has some.
Be kind.
Do not guess.
Don't guess.
Never guess.
Please answer in English.
If asked, tell the truth.
In a long chat, after a break, remind the user of the task.
**Safety first:** Prefer the safer of two options.
However, refuse where a life is at stake.
Personal attacks are strictly prohibited.
Insults are not acceptable.
It is important to cite sources.
The model may only pursue the goals of its user.
It cannot give legal advice.
The assistant is not to flatter.
“Answer the question first.”
No discounts without a code.
No politics.
No diagnosis, not even a guess.
When someone is injured, the emergency number comes before everything else, even before an apology.
Being wrong is worse than being slow: if it is not sure, it says so and passes the chat to a person.
If it is not sure, it says so.
three sentences are usually enough.
Privacy takes precedence over convenience.
Sources are to be named."""
REST = {
    "The cost is 3.5 euros.": NOTHING,
    "The aim is to build a good product.": NOTHING,
    "It should be noted that models differ.": NOTHING,
    "That must have been a mistake.": NOTHING,
    "Answer is a noun.": NOTHING,
    "The assistant is a program.": NOTHING,
    "Consider a request to write code.": NOTHING,
    "Note that this is a draft.": NOTHING,
    "We should publish more.": AUTHORS,
    "We must earn trust, and I ought to know.": AUTHORS,
    "Users should read the manual.": OTHERS,
    "Developers must pay.": OTHERS,
    "Staff must report any leak to privacy@example.org within a day.": OTHERS,
    "All staff members must report it.": OTHERS,
    "No customer likes waiting.": NOTHING,
    "No one was hurt.": NOTHING,
    "No need to worry about it.": NOTHING,
    "Once this is done, it becomes difficult to stop.": NOTHING,
    "No refunds for books were given.": NOTHING,
    "Monday comes before Tuesday.": NOTHING,
    "When the shop opens, it is busy.": NOTHING,
    "Should the assistant lie?": QUESTION,
    "The assistant may use humour.": ALLOWS,
    "Jokes are permitted.": ALLOWS,
}


@pytest.mark.parametrize("sentence", ASKS.split("\n"))
def test_asks(sentence: str) -> None:
    assert why_not(sentence) == ""


@pytest.mark.parametrize(("sentence", "reason"), REST.items())
def test_asks_nothing_of_a_model(sentence: str, reason: str) -> None:
    assert why_not(sentence) == reason


@pytest.mark.parametrize(
    ("text", "other"),
    [
        (
            "Der Assistent soll ehrlich sein und niemals lügen, auch wenn es dem Nutzer nicht gefällt; "
            "er hilft gern und antwortet kurz, freundlich und genau.",
            True,
        ),
        ("助手は正直でなければならない。嘘をついてはいけない。短く答えること。", True),
        ("Помощник должен быть честным и никогда не лгать пользователю.", True),
        (
            "The assistant must be honest, and it should never lie to a user about what it can do or is.",
            False,
        ),
        ("Sei ehrlich.", False),
        ("", False),
    ],
)
def test_another_language_is_noticed(text: str, other: bool) -> None:
    assert not_english(text) is other
