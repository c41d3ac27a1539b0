"""System turns, the order of turns, dates, ends of turn, trained turns and templates that do not end."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest
from tiny_models import CHATML, LLAMA2, byte_tokenizer, chatml_tokenizer, llama2_tokenizer
from unit.engines.test_render_training import TEMPLATES, assistant, trl_tokenizer, user

from constitute import clock
from constitute.engines.render import Renderer, RenderSettings, template
from constitute.engines.tokenizer import eos_ids, load_tokenizer, pad_of
from constitute.errors import DataError, RowError, UsageError
from constitute.types import Message, Request

pytest.importorskip("trl")


def toy(name: str, settings: RenderSettings | None = None) -> Renderer:
    return Renderer(trl_tokenizer(TEMPLATES[name]), name, settings=settings)


def text_of(renderer: Renderer, *turns: tuple[str, str]) -> str:
    messages = tuple(Message(role=role, content=content) for role, content in turns)
    return renderer.tokenizer.decode(list(renderer.ids(Request(messages=messages))))


def trained(renderer: Renderer, labels: list[int]) -> str:
    return renderer.tokenizer.decode([label for label in labels if label != -100])


# --- system turns and order


def test_system_text_goes_into_the_first_user_turn_where_a_template_refuses_or_drops_it():
    dropping = CHATML.replace("{% for m in messages %}", "{% for m in messages if m.role != 'system' %}")
    assert dropping != CHATML
    dropper = Renderer(byte_tokenizer(dropping, special=("<|im_start|>", "<|im_end|>")), "dropper")
    for renderer in (toy("gemma"), dropper):
        assert renderer.traits.system == "folded"
        folded = text_of(renderer, ("system", "Be kind."), ("user", "Hi"))
        assert folded == text_of(renderer, ("user", "Be kind.\n\nHi"))
        later = text_of(renderer, ("system", "S"), ("user", "a"), ("assistant", "b"), ("user", "c"))
        assert later == text_of(renderer, ("user", "S\n\na"), ("assistant", "b"), ("user", "c"))
        turns = [{"role": "system", "content": "S"}, user("a"), assistant("b")]
        assert renderer.prompt_ids(turns[:2]) == renderer.prompt_ids([user("S\n\na")])
    with pytest.raises(
        RowError, match="no user turn follows that could hold the system text; add a user turn"
    ):
        text_of(toy("gemma"), ("user", "a"), ("system", "S"))


def test_system_turns_stay_where_a_template_takes_them():
    assert toy("llama3").traits.system == "own role"
    assert toy("qwen2_5").traits.system == "own default text"
    assert "<|im_start|>system\nS<|im_end|>" in text_of(toy("qwen2_5"), ("system", "S"), ("user", "a"))
    # A text of the template's own stands in a trained prompt as in a sampled one.
    asked = [Message(role="user", content="a")]
    renderer = toy("qwen2_5")
    assert tuple(renderer.prompt_ids(asked)) == renderer.ids(Request(messages=tuple(asked)))
    assert "You are" in renderer.tokenizer.decode(renderer.prompt_ids(asked))


def test_neighbouring_turns_are_joined_only_where_a_template_refuses_them():
    strict, free = toy("gemma"), toy("llama3")
    assert (strict.traits.alternates, free.traits.alternates) == (True, False)
    assert text_of(strict, ("user", "a"), ("user", "b")) == text_of(strict, ("user", "a\n\nb"))
    many = text_of(strict, ("user", "a"), ("assistant", "b"), ("assistant", "c"), ("user", "d"))
    assert many == text_of(strict, ("user", "a"), ("assistant", "b\n\nc"), ("user", "d"))
    two = strict.training_rows([user("a"), assistant("b"), assistant("c")])
    assert two == strict.training_rows([user("a"), assistant("b\n\nc")])
    assert text_of(free, ("user", "a"), ("user", "b")).count("<|start_header_id|>user") == 2


def test_a_conversation_that_begins_with_the_assistant_is_refused_in_one_sentence():
    turns = (("assistant", "Hello"), ("user", "a"))
    with pytest.raises(
        RowError, match=r"^the chat template of 'gemma' takes no conversation that begins with"
    ):
        text_of(toy("gemma"), *turns)
    with pytest.raises(
        DataError, match=r"put a user turn before it .* \(in the conversation that begins 'Hello'\)"
    ):
        toy("gemma").conversation_ids([assistant("Hello"), user("a"), assistant("b")])
    assert "Hello" in text_of(toy("llama3"), *turns)


# --- dates


@pytest.mark.parametrize(("name", "written"), [("llama3_2", "03 Feb 2001"), ("gptoss", "2001-02-03")])
def test_a_template_is_told_the_day_of_the_settings(name, written, monkeypatch):
    pinned = RenderSettings(date="2001-02-03")
    before = text_of(toy(name, pinned), ("user", "a"))
    assert written in before and toy(name).traits.dated
    monkeypatch.setattr(clock, "today", lambda: "2012-12-14")
    assert text_of(toy(name, pinned), ("user", "a")) == before
    assert "2012" in text_of(toy(name), ("user", "a"))
    # A renderer keeps its day past midnight.
    opened = toy(name)
    monkeypatch.setattr(clock, "today", lambda: "2012-12-15")
    assert "15" not in text_of(opened, ("user", "a")).partition("2012")[2][:6]


def test_templates_without_a_date_know_none():
    assert not toy("llama3").traits.dated and not toy("qwen3").traits.dated


# --- ends of turn


def test_an_answer_ends_at_the_generation_configs_end_in_training_too():
    tokenizer = trl_tokenizer(TEMPLATES["phi3"])
    tokenizer.eos_token = "<|endoftext|>"
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    ends = eos_ids(tokenizer, SimpleNamespace(eos_token_id=[end]))
    renderer = Renderer(tokenizer, "phi3", ends)
    assert renderer.answer_ids([user("a")], "Yes")[-1] == end
    assert "<|end|>" in renderer.traits.ends


# --- trained turns

REWRITING = ("qwen3", "gptoss", "phi3", "deepseek_r1_distill", "deepseekv3", "qwen3_5_think")
TALK = [user("a"), assistant("BAD"), user("c"), assistant("GOOD")]


@pytest.mark.parametrize("name", [*REWRITING, "llama3", "nemotron_3_nano"])
def test_the_last_answer_alone_bears_loss_in_the_context_it_is_sampled_in(name):
    renderer = toy(name)
    ids, labels = renderer.conversation_ids(TALK)
    prompt, answer = renderer.prompt_ids(TALK[:-1]), renderer.answer_ids(TALK[:-1], "GOOD")
    assert ids == prompt + answer and labels == [-100] * len(prompt) + answer
    assert "BAD" not in trained(renderer, labels) and trained(renderer, labels).startswith("GOOD")


@pytest.mark.parametrize("name", REWRITING)
def test_several_trained_turns_get_a_sequence_each_where_earlier_ones_are_rewritten(name):
    renderer = toy(name)
    assert renderer.traits.rewrites
    rows = renderer.training_rows(TALK, "all")
    assert rows == [renderer.conversation_ids(TALK[:2]), renderer.conversation_ids(TALK)]
    with pytest.raises(UsageError, match=r"rewrites earlier turns .* use training_rows"):
        renderer.conversation_ids(TALK, "all")


def test_several_trained_turns_share_a_sequence_where_nothing_is_rewritten():
    renderer = toy("llama3")
    assert not renderer.traits.rewrites
    (row,) = renderer.training_rows(TALK, "all")
    assert row[0] == renderer.conversation_ids(TALK)[0]
    assert trained(renderer, row[1]) == "BAD<|eot_id|>GOOD<|eot_id|>"
    assert renderer.training_rows(TALK, [1, 3]) == [row]
    assert renderer.training_rows(TALK, [1]) == [renderer.conversation_ids(TALK[:2])]


def weighted(turn: dict[str, str], weight: object) -> dict[str, object]:
    return {**turn, "weight": weight}


def test_weights_decide_before_the_setting():
    renderer = toy("llama3")
    three = [*TALK, user("e"), assistant("END")]
    first = [three[0], weighted(three[1], 1), *three[2:]]
    assert trained(renderer, renderer.conversation_ids(first)[1]) == "BAD<|eot_id|>END<|eot_id|>"
    middle = [*three[:3], weighted(three[3], 1), three[4], weighted(three[5], 0)]
    ids, labels = renderer.conversation_ids(middle)
    assert trained(renderer, labels) == "GOOD<|eot_id|>" and ids == renderer.conversation_ids(three[:4])[0]
    without = [three[0], weighted(three[1], 0), *three[2:]]
    assert trained(renderer, renderer.conversation_ids(without, "all")[1]) == "GOOD<|eot_id|>END<|eot_id|>"


def test_nothing_to_train_on_is_an_error_and_a_last_question_is_cut():
    renderer = toy("llama3")
    with pytest.raises(DataError, match=r"begins 'a' has nothing to train on: .* weight 0"):
        renderer.conversation_ids([TALK[0], weighted(TALK[1], 0)])
    with pytest.raises(DataError, match="no turn of the assistant"):
        renderer.conversation_ids([user("a")])
    with pytest.raises(DataError, match=r"weight 0\.5; it must be 0 \(no loss\) or 1"):
        renderer.conversation_ids([TALK[0], weighted(TALK[1], 0.5)])
    assert renderer.conversation_ids([*TALK, user("more")]) == renderer.conversation_ids(TALK)


# --- pad, broken tokenizers, templates that do not end


@pytest.mark.parametrize(
    ("names", "pad", "chosen"),
    [
        (("<|im_start|>", "<|im_end|>", "<|reserved_special_token_0|>"), "", "<|reserved_special_token_0|>"),
        (("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<empty_output>"), "<|im_end|>", "<empty_output>"),
        (("<|im_start|>", "<|im_end|>", "[control_8]"), "", "[control_8]"),
    ],
    ids=["llama-3", "smollm2", "mistral"],
)
def test_an_unused_token_pads_and_is_recorded_in_the_saved_folder(tmp_path, names, pad, chosen):
    from transformers import AutoTokenizer

    tokenizer = byte_tokenizer(CHATML, special=names, eos="<|im_end|>", pad=pad)
    found = pad_of(tokenizer, "model")
    assert tokenizer.convert_ids_to_tokens(found) == chosen and found != tokenizer.eos_token_id
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.pad_token == chosen and pad_of(again, "model") == found


def test_a_tokenizer_object_without_tokenizers_form_gives_way_to_tokenizer_json(tmp_path, monkeypatch):
    import transformers

    chatml_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    other = SimpleNamespace(chat_template="{{ messages }}")
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: other)
    tokenizer = load_tokenizer(str(tmp_path))
    assert Renderer(tokenizer, "mistral").ids(Request(messages=(Message(role="user", content="a"),)))
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(UsageError, match="cannot load the tokenizer"):
        load_tokenizer(str(tmp_path))


def test_a_template_that_does_not_end_is_stopped(monkeypatch):
    monkeypatch.setattr(template, "_LIMIT_S", 0.3)
    loops = "{% if messages[0].content == 'x' %}{% for a in range(90000) %}{% for b in range(90000) %}"
    loops += "{% endfor %}{% endfor %}{% endif %}"
    # The text of a message never reaches the template; its lack of one does.
    tokenizer = byte_tokenizer(
        loops.replace("== 'x'", "== ' '") + CHATML, special=("<|im_start|>", "<|im_end|>")
    )
    renderer = Renderer(tokenizer, "looping")
    before = threading.active_count()
    with pytest.raises(
        RowError, match=r"does not end within 0\.3 s on a conversation of user; give .* another"
    ):
        renderer.ids(Request(messages=(Message(role="user", content=" "),)))
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert threading.active_count() == before
    assert renderer.ids(Request(messages=(Message(role="user", content="fine"),)))
    always = loops.replace("{% if messages[0].content == 'x' %}", "").replace("{% endif %}", "")
    with pytest.raises(UsageError, match="does not end within"):
        Renderer(byte_tokenizer(always + CHATML, special=("<|im_start|>", "<|im_end|>")), "looping")


def test_a_template_that_recurses_or_breaks_fails_the_row_in_one_sentence():
    for broken in ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{{ 1 + 'a' }}", "{{ 1 / 0 }}"):
        tokenizer = byte_tokenizer(broken + CHATML, special=("<|im_start|>", "<|im_end|>"))
        with pytest.raises(RowError, match="the chat template of 'broken' refuses a conversation of user: "):
            text_of(Renderer(tokenizer, "broken"), ("user", "a"))


def test_strict_templates_of_the_old_kind_still_render_a_plain_question():
    assert LLAMA2
    renderer = Renderer(llama2_tokenizer(), "llama2")
    assert renderer.traits.system == "folded" and renderer.traits.alternates and renderer.traits.user_first
