"""Thinking: off, a prompt ends where the answer begins; on, what was thought is kept apart by token ids."""

from __future__ import annotations

import pytest
from tiny_models import CHATML, byte_tokenizer
from unit.engines.test_render_training import TEMPLATES, assistant, trl_tokenizer, user

from constitute.engines.render import Renderer, RenderSettings, apart_in_text
from constitute.errors import RowError, UsageError
from constitute.types import Completion, Message, Request, SamplingParams

pytest.importorskip("trl")

ASKED = (Message(role="user", content="QQ"),)
# What stands between the question and an answer with thinking off, and with thinking on.
OPENINGS = {
    "qwen3": ("<|im_start|>assistant\n<think>\n\n</think>\n\n", "<|im_start|>assistant\n"),
    "qwen3_5_think": ("<|im_start|>assistant\n<think>\n\n</think>\n\n", "<|im_start|>assistant\n<think>\n"),
    "qwen3_8": ("<|im_start|>assistant\n<think>\n\n</think>\n\n", "<|im_start|>assistant\n<think>\n"),
    "deepseek_r1_distill": ("<｜Assistant｜><think>\n\n</think>\n\n", "<｜Assistant｜><think>\n"),
    "nemotron_3_nano": ("<|im_start|>assistant\n<think></think>", "<|im_start|>assistant\n<think>\n"),
    "glm4moe": ("/nothink<|assistant|>\n<think></think>\n", "<|assistant|>"),
    "gptoss": ("<|start|>assistant<|channel|>final<|message|>", "<|start|>assistant"),
    "muse_glimmer": ("<|start|>assistant to=user<|message|>", "<|start|>assistant"),
    "gemma4": ("<|turn>model\n", "<|turn>model\n"),
    "qwen2_5": ("<|im_start|>assistant\n", "<|im_start|>assistant\n"),
}
SWITCHED = ("qwen3", "qwen3_5_think", "qwen3_8", "nemotron_3_nano", "glm4moe", "gemma4")

# Ends of turn that the toy tokenizer does not choose by itself.
ENDS = {"gptoss": "<|return|>", "muse_glimmer": "<|eot|>"}


def toy(name: str) -> Renderer:
    tokenizer = trl_tokenizer(TEMPLATES[name])
    end = ENDS.get(name)
    ends = frozenset() if end is None else frozenset([tokenizer.convert_tokens_to_ids(end)])
    return Renderer(tokenizer, name, ends)


def tokens(renderer: Renderer, text: str) -> tuple[int, ...]:
    """The ids a model would sample for `text`, control tokens among them."""
    return tuple(renderer.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids)


def sampled(renderer: Renderer, text: str, *, cut: bool = False) -> Completion:
    ids = tokens(renderer, text)
    plain = renderer.tokenizer.decode(list(ids), skip_special_tokens=True)
    return Completion(text=plain, token_ids=ids, finish_reason="length" if cut else "stop")


def thinking(tokens: int, *, answer: int = 50, stop: tuple[str, ...] = ()) -> Request:
    return Request(messages=ASKED, thinking=tokens, sampling=SamplingParams(max_tokens=answer, stop=stop))


@pytest.mark.parametrize("name", OPENINGS)
def test_a_prompt_ends_where_the_answer_or_the_thinking_begins(name):
    renderer, (off, on) = toy(name), OPENINGS[name]
    text = renderer.tokenizer.decode(list(renderer.ids(Request(messages=ASKED))))
    assert text.endswith(off) and text.partition("QQ")[2].endswith(off)
    assert renderer.tokenizer.decode(list(renderer.ids(thinking(9)))).endswith(on)
    # The toy tokenizer has a token a byte: a label of one letter is one token, and nothing before it.
    assert renderer.label_ids(Request(messages=ASKED), "A") == tokens(renderer, "A")
    prompt, answer = renderer.prompt_ids([user("QQ")]), renderer.answer_ids([user("QQ")], "A")
    assert tuple(prompt) == renderer.ids(Request(messages=ASKED)) and answer[0] == tokens(renderer, "A")[0]
    ids, labels = renderer.conversation_ids([user("QQ"), assistant("A")])
    assert ids == prompt + answer and labels == [-100] * len(prompt) + answer


@pytest.mark.parametrize("name", SWITCHED)
def test_the_switch_is_found_in_the_template(name):
    traits = toy(name).traits
    assert traits.thinking == "switched" and traits.switch is not None
    assert (traits.switch.name, traits.switch.off, traits.switch.on) == ("enable_thinking", False, True)


def test_what_cannot_be_switched_is_said():
    assert toy("deepseekv3").traits.thinking == "closed by us"
    assert toy("gptoss").traits.thinking == "closed by us"
    assert toy("lfm2_2_5").traits.thinking == "always"
    assert toy("qwen2_5").traits.thinking == "none"
    assert toy("llama3").traits.thinking == "none"


def test_other_switches_are_found_and_an_effort_that_is_only_written_out_is_none():
    for name, off in (("thinking", False), ("reasoning", False), ("thinking_budget", 0)):
        closed = f"{{% if {name} is defined and not {name} %}}<think>\n\n</think>\n\n{{% endif %}}"
        template = f"{CHATML}{{% if add_generation_prompt %}}{closed}{{% endif %}}"
        special = ("<|im_start|>", "<|im_end|>", "<think>", "</think>")
        renderer = Renderer(byte_tokenizer(template, special=special, eos="<|im_end|>"), name)
        assert renderer.traits.switch is not None
        assert (renderer.traits.switch.name, renderer.traits.switch.off) == (name, off)
    assert toy("gptoss").traits.switch is None


def test_settings_may_not_think_where_no_request_asks_for_it():
    tokenizer = trl_tokenizer(TEMPLATES["qwen3"])
    Renderer(tokenizer, "qwen3", settings=RenderSettings(kwargs={"enable_thinking": False}))
    with pytest.raises(UsageError, match=r"sets enable_thinking to True .* above 0"):
        Renderer(tokenizer, "qwen3", settings=RenderSettings(kwargs={"enable_thinking": True}))


def test_variables_reach_the_template():
    tokenizer = trl_tokenizer(TEMPLATES["gptoss"])
    low = Renderer(tokenizer, "gptoss", settings=RenderSettings(kwargs={"reasoning_effort": "low"}))
    assert "Reasoning: low" in tokenizer.decode(list(low.ids(Request(messages=ASKED))))


# What a model samples with thinking on: (template, sampled text). Each thinks "why" and answers "Yes."
THOUGHT = {
    "qwen3": "<think>\nwhy\n</think>\n\nYes.<|im_end|>",
    "qwen3_5_think": "why\n</think>\n\nYes.<|im_end|>",
    "deepseek_r1_distill": "why\n</think>\n\nYes.",
    "gptoss": "<|channel|>analysis<|message|>why<|end|><|start|>assistant"
    "<|channel|>final<|message|>Yes.<|return|>",
    "muse_glimmer": " to=self<|message|>why<|eom|><|start|>assistant to=user<|message|>Yes.<|eot|>",
    "gemma4": "<|channel>thought\nwhy\n<channel|>Yes.<eos>",
    "lfm2_2_5": "<think>why</think>Yes.<|im_end|>",
}


@pytest.mark.parametrize("name", THOUGHT)
def test_reasoning_is_kept_apart_although_detokenizers_skip_its_marks(name):
    renderer = toy(name)
    found = renderer.completion(thinking(40), sampled(renderer, THOUGHT[name]))
    assert found.reasoning == "why"
    assert found.text == "Yes."
    assert found.finish_reason == "stop"


@pytest.mark.parametrize(
    ("opening", "closing"),
    [("[THINK]", "[/THINK]"), ("<|START_THINKING|>", "<|END_THINKING|><|START_RESPONSE|>")],
)
def test_marks_of_other_families_are_known(opening, closing):
    marks = ("[THINK]", "[/THINK]", "<|START_THINKING|>", "<|END_THINKING|>", "<|START_RESPONSE|>")
    tokenizer = byte_tokenizer(CHATML, special=("<|im_start|>", "<|im_end|>", *marks), eos="<|im_end|>")
    renderer = Renderer(tokenizer, "other")
    found = renderer.completion(thinking(9), sampled(renderer, f"{opening}why{closing}Yes.<|im_end|>"))
    assert (found.reasoning, found.text) == ("why", "Yes.")


def test_a_final_channel_without_analysis_is_the_answer_alone():
    renderer = toy("gptoss")
    found = renderer.completion(thinking(9), sampled(renderer, "<|channel|>final<|message|>Yes.<|return|>"))
    assert (found.reasoning, found.text) == ("", "Yes.")


def test_both_budgets_are_asked_for_and_stop_strings_wait_for_the_answer():
    renderer = toy("qwen3")
    request = thinking(7, answer=5, stop=("w", "e"))
    asked = renderer.sampling(request)
    assert (asked.max_tokens, asked.stop) == (12, ())
    whole = sampled(renderer, "<think>\nwe\n</think>\n\nYes.<|im_end|>")
    found = renderer.completion(request, whole)
    assert (found.reasoning, found.text, found.finish_reason) == ("we", "Y", "stop")
    plain = Request(messages=ASKED, sampling=request.sampling)
    assert renderer.sampling(plain) == request.sampling


def test_an_answer_is_cut_at_its_own_budget():
    renderer = toy("qwen3_5_think")
    whole = sampled(renderer, "why</think>abcdef<|im_end|>")
    exact = renderer.completion(thinking(9, answer=7), whole)
    assert (exact.text, exact.finish_reason, exact.token_ids) == ("abcdef", "stop", whole.token_ids)
    short = renderer.completion(thinking(9, answer=4), whole)
    assert (short.text, short.finish_reason) == ("abcd", "length")
    assert short.token_ids == tokens(renderer, "why</think>abcd")
    ended = renderer.completion(thinking(9, answer=9), sampled(renderer, "why</think>abc", cut=True))
    assert (ended.text, ended.finish_reason) == ("abc", "length")


@pytest.mark.parametrize("name", ["qwen3", "qwen3_5_think", "deepseek_r1_distill"])
def test_thinking_that_does_not_end_is_no_answer(name):
    renderer = toy(name)
    begun = "<think>\nwhy, I wonder" if name == "qwen3" else "why, I wonder"
    found = renderer.completion(thinking(9), sampled(renderer, begun, cut=True))
    assert (found.text, found.reasoning, found.finish_reason) == ("", "why, I wonder", "length")


def test_reasoning_that_nobody_asked_for_is_kept_apart_and_ordinary_text_is_left_alone():
    renderer = toy("qwen3")
    plain = Request(messages=ASKED)
    for text in ("<think>why</think>\n\nYes.<|im_end|>", "why\n</think>\n\nYes.<|im_end|>"):
        found = renderer.completion(plain, sampled(renderer, text))
        assert (found.reasoning, found.text) == ("why", "Yes.")
    ordinary = sampled(renderer, "  Use the tag think, then end.<|im_end|>")
    assert renderer.completion(plain, ordinary) is ordinary
    # Without such control tokens, a closing mark in the middle is a word like any other.
    chatml = Renderer(byte_tokenizer(CHATML, special=("<|im_start|>", "<|im_end|>"), eos="<|im_end|>"), "c")
    quoting = sampled(chatml, "Write </think> at the end.<|im_end|>")
    assert chatml.completion(plain, quoting) is quoting


def test_thinking_and_a_begun_answer_exclude_each_other():
    with pytest.raises(RowError, match="cannot go on from a begun answer"):
        toy("qwen3").ids(Request(messages=ASKED, prefill="(", thinking=5))


def test_a_text_that_a_server_decoded_is_divided_by_its_written_marks():
    request = Request(messages=ASKED, sampling=SamplingParams(stop=("\n",)))
    found = apart_in_text(request, Completion(text="<think>\nlong\nthought\n</think>\n\nanswer\nmore"))
    assert (found.reasoning, found.text) == ("long\nthought", "answer")
    given = Completion(text="answer", reasoning="kept by the server")
    assert apart_in_text(request, given) == given
