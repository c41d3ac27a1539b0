"""Prompts on their way from a run's settings to a trainer."""

from __future__ import annotations

import pytest

from constitute.engines.base import ModelIdentity
from constitute.errors import RowError, UsageError
from constitute.progress import Silent
from constitute.train.common.from_run import rendered_prompts
from constitute.types import Message, Prompt

PROMPTS = [Prompt(id=text, messages=(Message(role="user", content=text),)) for text in ("ab", "refuse", "c")]


class Letters:
    """One token a letter, roles included; refuses one prompt."""

    identity = ModelIdentity(engine="letters", name="letters")

    def prompt_ids(self, request):
        text = "".join(message.role[0] + message.content for message in request.messages)
        if "refuse" in text:
            raise RowError("the template refuses it")
        return tuple(map(ord, text))


class Notes(Silent):
    def __init__(self):
        self.said = []

    def note(self, text):
        self.said.append(text)


def test_prompts_are_rendered_with_the_system_turn_and_refused_ones_are_told():
    notes = Notes()
    kept, ids = rendered_prompts(PROMPTS, "S", Letters(), notes)
    assert [prompt.id for prompt in kept] == ["ab", "c"]
    assert ids == [[ord(letter) for letter in text] for text in ("sSuab", "sSuc")]
    assert notes.said == ["prompt refuse is left out: the template refuses it"]


def test_an_engine_that_knows_no_token_ids_is_refused_with_the_remedy():
    engine = Letters()
    engine.prompt_ids = lambda request: None
    with pytest.raises(
        UsageError, match=r"letters does not say the prompts' token ids; set engine\.tokenizer"
    ):
        rendered_prompts(PROMPTS, "", engine, Silent())
