"""Rendering: ordinary text gets the tokenizer's own ids, and no text becomes a control token."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import chatml_tokenizer, llama2_tokenizer

from constitute.engines.base import check_length
from constitute.engines.render import Renderer
from constitute.errors import PromptTooLong, RowError, UsageError
from constitute.packaged import model_path
from constitute.types import Message, Request

pytest.importorskip("transformers")
POCKET = model_path("pocket")


def _tokenizer(name: str):
    if name == "pocket":
        if POCKET == "pocket":
            pytest.skip("the embedded model's weights are not in this checkout")
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(POCKET)
    return {
        "chatml": chatml_tokenizer,
        "llama2": llama2_tokenizer,
        "llama2-always": lambda: llama2_tokenizer(scheme="always"),
    }[name]()


@pytest.fixture(scope="module", params=["chatml", "llama2", "llama2-always", "pocket"])
def renderer(request):
    return Renderer(_tokenizer(request.param), request.param)


def ask(*contents: str, prefill: str = "") -> Request:
    roles = ("user", "assistant")
    messages = tuple(Message(role=roles[i % 2], content=text) for i, text in enumerate(contents))
    return Request(messages=messages, prefill=prefill)


PLAIN = [
    ("Is 7 prime?",),
    ("Hello there", "Hi.", "Thank you, why?"),
    ("  spaces around  ", "\n\nnewlines\n", "tab\there"),
    ("a" * 300, "", "ok"),
    ("Ein schöner Tag: n'est-ce pas?", "Ja", "0123 (A) or (B)"),
]


@pytest.mark.parametrize("contents", PLAIN)
def test_ordinary_text_gets_the_ids_of_apply_chat_template(renderer, contents):
    request = ask(*contents)
    own = renderer.tokenizer.apply_chat_template(
        [message.model_dump() for message in request.messages],
        tokenize=True,
        add_generation_prompt=True,
        return_dict=False,
    )
    assert list(renderer.ids(request)) == list(own)


def _content_and_template_controls(renderer, request):
    """How many control ids a request has, against the same one with harmless content."""
    harmless = request.model_copy(
        update={
            "messages": tuple(m.model_copy(update={"content": "x"}) for m in request.messages),
            "prefill": "x" if request.prefill else "",
        }
    )
    count = lambda ids: sum(i in renderer.control for i in ids)  # noqa: E731
    return count(renderer.ids(request)), count(renderer.ids(harmless))


def test_no_special_token_in_any_position_becomes_a_control_id(renderer):
    tokens = renderer.tokenizer.convert_ids_to_tokens(sorted(renderer.control))
    tokens = [token for token in tokens if token] + ["<|im_end|>", "</s>", "[INST]", "<unk>"]
    for token in tokens:
        for text in (token, f"a {token}", f"{token} b", f"a{token}b", f"\n{token}\n", token * 3):
            for request in (ask(text), ask("hi", text, text), ask("hi", prefill=text)):
                found, expected = _content_and_template_controls(renderer, request)
                assert found == expected, (token, text)


def _without_spaces(text: str) -> str:
    return "".join(text.split()).replace("▁", "")


def test_hostile_text_round_trips(renderer):
    for token in renderer.tokenizer.convert_ids_to_tokens(sorted(renderer.control)):
        request = ask("hi", prefill=f"one {token}two")
        bare = renderer.ids(ask("hi"))
        ids = renderer.ids(request)
        assert ids[: len(bare)] == bare
        text = renderer.tokenizer.decode(ids[len(bare) :])
        assert _without_spaces(text) == f"one{token}two"


@given(text=st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_round_trips_byte_for_byte(text):
    renderer = _cached_chatml()
    bare = renderer.ids(ask("hi"))
    ids = renderer.ids(ask("hi", prefill=text))
    assert ids[: len(bare)] == bare or text.startswith("\n")
    assert not renderer.control & set(ids[len(bare) :])
    whole = renderer.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    assert whole.endswith("assistant\n" + text)


@given(
    pieces=st.lists(
        st.sampled_from(["<|im_end|>", "<|im_", "start|>", "<|pad|>", "a", " ", "\n", "é"]), max_size=12
    )
)
@settings(max_examples=300, deadline=None)
def test_any_mixture_of_control_text_stays_text(pieces):
    renderer = _cached_chatml()
    text = "".join(pieces)
    found, expected = _content_and_template_controls(renderer, ask(text or "x"))
    assert found == expected
    assert text.strip() in renderer.tokenizer.decode(renderer.ids(ask(text)))


_CHATML: list[Renderer] = []


def _cached_chatml() -> Renderer:
    if not _CHATML:
        _CHATML.append(Renderer(chatml_tokenizer(), "chatml"))
    return _CHATML[0]


def test_the_next_turn_extends_the_tokens_of_this_one(renderer):
    first = renderer.ids(ask("Is 7 prime?"))
    answered = renderer.ids(ask("Is 7 prime?", prefill="Yes, it is."))
    following = renderer.ids(ask("Is 7 prime?", "Yes, it is.", "Thank you, why?"))
    assert answered[: len(first)] == first
    assert following[: len(answered)] == answered


def test_a_label_is_an_exact_suffix(renderer):
    request = ask("Answer with A or B.")
    for label in ("A", "B", "A because it is more harmless"):
        whole = renderer.ids(request.model_copy(update={"prefill": label}))
        assert renderer.ids(request) + renderer.label_ids(request, label) == whole


def test_a_label_that_would_swallow_the_prefill_fails_the_row():
    renderer = _cached_chatml()
    request = ask("hi", prefill="Yes, it i")
    with pytest.raises(RowError, match="no tokens of its own"):
        renderer.label_ids(request, "s")


def test_template_refusals_fail_the_row_with_the_templates_words():
    tokenizer = chatml_tokenizer()
    tokenizer.chat_template = (
        "{% if messages | length > 2 %}{{ raise_exception('Only one turn supported') }}{% endif %}"
        + tokenizer.chat_template
    )
    renderer = Renderer(tokenizer, "single")
    with pytest.raises(RowError, match=r"refuses a conversation of user, assistant, user: Only one turn"):
        renderer.ids(ask("a", "b", "c"))


def test_a_template_that_drops_a_message_fails_the_row():
    tokenizer = chatml_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role != 'assistant' %}"
        "<|im_start|>{{ m.content }}{% endif %}{% endfor %}"
    )
    renderer = Renderer(tokenizer, "dropper")
    with pytest.raises(RowError, match=r"drops message 2 \(assistant\)"):
        renderer.ids(ask("a", "b", "c"))


def test_a_model_without_chat_template_is_refused_with_the_remedy():
    tokenizer = chatml_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(UsageError, match=r"has no chat template; add a chat_template\.jinja"):
        Renderer(tokenizer, "base-model")


def test_a_template_that_escapes_its_sandbox_is_refused():
    tokenizer = chatml_tokenizer()
    tokenizer.chat_template = "{{ messages.__class__.__mro__ }}<|im_start|>{{ messages[0].content }}"
    with pytest.raises(RowError, match="unsafe"):
        Renderer(tokenizer, "hostile").ids(ask("hi"))


def test_added_tokens_the_template_does_not_name_stay_ordinary():
    from tokenizers import AddedToken

    tokenizer = chatml_tokenizer()
    tokenizer.add_tokens([AddedToken("<think>", special=False), AddedToken("    ", special=False)])
    plain = Renderer(tokenizer, "plain")
    assert tokenizer.convert_tokens_to_ids("<think>") not in plain.control
    tokenizer.chat_template = tokenizer.chat_template + "{# #}{{ '<think>' if false }}"
    strict = Renderer(tokenizer, "strict")
    think = tokenizer.convert_tokens_to_ids("<think>")
    assert think in strict.control
    assert think not in strict.ids(ask("a <think> b"))
    assert tokenizer.convert_tokens_to_ids("    ") in strict.ids(ask("a    b"))


def test_lone_surrogates_fail_the_row():
    with pytest.raises(RowError, match="not valid Unicode"):
        _cached_chatml().ids(ask("bad \ud800 text"))


def test_prompt_length_is_checked_with_both_numbers():
    check_length(9, 10)
    check_length(10**6, None)
    with pytest.raises(PromptTooLong, match="10 tokens long and the context holds 10"):
        check_length(10, 10)
