"""Conversations without a chat template: exact texts, labels that follow them, and models that have none."""

import logging

import pytest
from transformers import AutoTokenizer

from constitute.engines.render import Renderer, RenderSettings
from constitute.errors import UsageError
from constitute.packaged import model_path
from constitute.types import Message, Request


@pytest.fixture
def tokenizer():
    return AutoTokenizer.from_pretrained(model_path("pocket"))


def asked(form, prefill=""):
    turns = (("user", "Is 7 prime?<|end|>"), ("assistant", "Yes"), ("user", "Sure? "))
    return Request(messages=[Message(role=r, content=c) for r, c in turns], form=form, prefill=prefill)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("plain", "Human: Is 7 prime?<|end|>\n\nAssistant: Yes\n\nHuman: Sure? \n\nAssistant:"),
        ("bare", "Is 7 prime?<|end|>YesSure? "),
    ],
)
def test_forms_are_exactly_this_text(tokenizer, form, text):
    renderer = Renderer(tokenizer, "pocket")
    ids = renderer.ids(asked(form))
    assert tokenizer.decode(ids) == text
    # The control token in the message stays text.
    assert tokenizer.convert_tokens_to_ids("<|end|>") not in ids
    assert tokenizer.decode(renderer.ids(asked(form, " So it"))) == text + " So it"


def test_a_label_follows_the_plain_prompt_with_its_blank(tokenizer):
    renderer = Renderer(tokenizer, "pocket")
    assert tokenizer.decode(renderer.label_ids(asked("plain"), " Yes")) == " Yes"
    assert tokenizer.decode(renderer.label_ids(asked("plain", " It is"), " Yes")) == " Yes"


def test_a_model_without_chat_template_is_asked_in_plain_text_where_allowed(tokenizer, caplog):
    tokenizer.chat_template = None
    with pytest.raises(UsageError, match="has no chat template"):
        Renderer(tokenizer, "base")
    with caplog.at_level(logging.WARNING):
        renderer = Renderer(tokenizer, "base", settings=RenderSettings(plain=True))
    assert "'base' has no chat template; it is asked in plain text" in caplog.text
    assert renderer.ids(asked("chat")) == renderer.ids(asked("plain"))
