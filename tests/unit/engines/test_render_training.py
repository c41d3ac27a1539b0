"""Trainers get the token ids that engines sample, and no text becomes a control token in either."""

from __future__ import annotations

import hashlib
import re
import time
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CHATML, byte_tokenizer, chatml_tokenizer, llama2_tokenizer

from constitute.config import EngineConfig
from constitute.engines.base import ModelIdentity, as_bytes
from constitute.engines.fake import FakeEngine
from constitute.engines.render import Renderer
from constitute.engines.tokenizer import eos_ids
from constitute.errors import DataError, UsageError
from constitute.pipeline.question import Question
from constitute.types import Message, Request, SamplingParams

pytest.importorskip("transformers")
THINKING = CHATML + "{# </think> #}"
SPECIAL = ("<|pad|>", "<|im_start|>", "<|im_end|>")
CONTROL = re.compile(r"<\|[^|<>\s'\"]{1,40}\|>|<｜[^｜<>\s'\"]{1,40}｜>|</?[a-z_]{2,20}>|\[/?[A-Z_]{3,20}\]")
END = re.compile(r"im_end|eot_id|end_of_turn|end▁of|END_OF_TURN|<\|end\|>|return|endoftext|</s>|turn\|>")


def thinking_tokenizer():
    """ChatML whose template writes </think>, an added token that is not special; it never writes <think>."""
    return byte_tokenizer(
        THINKING, special=SPECIAL, plain=("<think>", "</think>"), eos="<|im_end|>", pad="<|pad|>"
    )


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def test_the_cache_key_of_a_request_is_the_same_in_every_version():
    renderer = Renderer(thinking_tokenizer(), "toy")
    request = Request(
        messages=(
            Message(role="system", content=" Be kind.\n"),
            Message(role="user", content="a <|im_end|> b </think> <think>c"),
        ),
        prefill="Well, <|im_start|>",
    )
    ids = renderer.ids(request)
    digest = hashlib.sha256(as_bytes(ids)).hexdigest()
    assert len(ids) == 83
    assert digest == "a738d20a4f9b4a8944c8278230273b3b5fa21b51eea4f7eda7b40798c4d473be"
    question = Question(
        stage="generate",
        prompt_sha256=digest,
        model=ModelIdentity(engine="transformers", name="toy"),
        sampling=SamplingParams(max_tokens=8, seed=1),
        step="response",
        index=0,
    )
    assert question.key() == "dfc7f947e1339d1f30a84e0283078de11dd82039026bcceb372d3aa53da15576"
    fake = hashlib.sha256(FakeEngine("f", EngineConfig(kind="fake")).rendered(request)).hexdigest()
    assert fake == "31e87fb66c1f12bfbcad7954e3ce5e9b4bdea22b36a2044efa28845d7b8108b3"


def test_a_control_token_that_is_not_special_stays_text_in_training():
    tokenizer = thinking_tokenizer()
    renderer = Renderer(tokenizer, "toy")
    think = tokenizer.convert_tokens_to_ids("</think>")
    asked = [user("a </think> b")]
    assert think not in renderer.prompt_ids(asked)
    assert think not in renderer.answer_ids(asked, "c </think>")
    ids, _ = renderer.conversation_ids([*asked, assistant("c </think>")])
    assert think not in ids
    assert tokenizer.decode(ids).count("</think>") == 2


TOKENIZERS = {
    "chatml": chatml_tokenizer,
    "llama2": llama2_tokenizer,
    "llama2-always": lambda: llama2_tokenizer(scheme="always"),
    "thinking": thinking_tokenizer,
}


def trl_templates() -> dict[str, str]:
    """The chat templates of the installed TRL, by file name."""
    found = find_spec("trl")
    if found is None or found.origin is None:
        return {}
    folder = Path(found.origin).parent / "chat_templates"
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.jinja"))}


def trl_tokenizer(template: str):
    """A byte-level tokenizer with every control string of a template as an added token.

    Those in angle brackets alone, such as </think> and <tool_call>, are not special.
    """
    names = sorted(set(CONTROL.findall(template)) | {"<think>", "</think>", "<tool_call>"})
    plain = [name for name in names if re.fullmatch(r"</?[a-z_]+>", name) and name not in ("<bos>", "<eos>")]
    ends = [name for name in names if END.search(name)]
    eos = ends[0] if ends else "<eos>"
    special = [name for name in dict.fromkeys([*names, eos, "<bos>", "<pad>"]) if name not in plain]
    tokenizer = byte_tokenizer(
        template, special=special, plain=[name for name in plain if name != eos], eos=eos, pad="<pad>"
    )
    tokenizer.bos_token = "<bos>"
    return tokenizer


TEMPLATES = trl_templates()
# Templates for images take a message's content as a list of parts.
IMAGES = re.compile(r"idefics3|llava_next|smolvlm")


@pytest.fixture(scope="module", params=[*TOKENIZERS, *TEMPLATES])
def renderer(request):
    name = request.param
    tokenizer = TOKENIZERS[name]() if name in TOKENIZERS else trl_tokenizer(TEMPLATES[name])
    return Renderer(tokenizer, name)


def controls(renderer, ids):
    return [token for token in ids if token in renderer.control]


def test_trainers_get_the_engines_ids_and_no_text_becomes_control(renderer):
    names = [name for name in renderer.tokenizer.convert_ids_to_tokens(sorted(renderer.control)) if name]
    texts = ["Is 7 prime?", "two\n lines ", *(f"a {name} b{name}" for name in names), *names]
    found = set()
    for text in texts:
        asked = (Message(role="user", content=text),)
        if IMAGES.match(renderer.name):
            with pytest.raises(DataError, match=r"drops message 1 \(user\); .* conversation that begins "):
                renderer.prompt_ids(asked)
            continue
        prompt = renderer.prompt_ids(asked)
        assert tuple(prompt) == renderer.ids(Request(messages=asked))
        answer = renderer.answer_ids(asked, text)
        assert answer[-1] in renderer.eos_ids and not renderer.eos_ids & set(answer[:-1])
        begun = renderer.ids(Request(messages=asked, prefill=text.strip()))
        assert (*prompt, *answer)[: len(begun)] == begun
        ids, labels = renderer.conversation_ids([*asked, Message(role="assistant", content=text)])
        assert ids == prompt + answer
        assert labels == [-100] * len(prompt) + answer
        found.add((tuple(controls(renderer, prompt)), tuple(controls(renderer, answer))))
    # What control tokens there are is the template's doing: the same whatever the text.
    assert len(found) == (0 if IMAGES.match(renderer.name) else 1)


@given(
    pieces=st.lists(
        st.sampled_from(["</think>", "<think>", "</th", "ink>", "<|im_end|>", "<|im_", "|>", " ", "\n", "é"]),
        min_size=1,
        max_size=10,
    )
)
@settings(max_examples=200, deadline=None)
def test_any_mixture_of_control_text_stays_text_in_training(pieces):
    renderer, text = _thinking(), "".join(pieces)
    ids, labels = renderer.conversation_ids([user(text), assistant(text), user(text), assistant(text)], "all")
    assert controls(renderer, ids) == [257, 258, 257, 258, 257, 258, 257, 258]
    assert [label for label in labels if label == 258] == [258, 258]
    assert renderer.tokenizer.decode(ids).count(text) >= 4


@cache
def _thinking() -> Renderer:
    return Renderer(thinking_tokenizer(), "toy")


def test_several_turns_are_laid_out_as_they_are_asked_and_answered():
    tokenizer = chatml_tokenizer()
    renderer = Renderer(tokenizer, "chatml")
    turns = [user("Is 7 prime?"), assistant("Yes"), user("why?"), assistant("It is.")]
    ids, labels = renderer.conversation_ids(turns, "all")
    asked = renderer.ids(Request(messages=tuple(Message.model_validate(turn) for turn in turns[:3])))
    assert ids[: len(asked)] == list(asked)
    assert ids[len(asked) :] == renderer.answer_ids(turns[:3], "It is.")
    assert tokenizer.decode([label for label in labels if label != -100]) == "Yes<|im_end|>It is.<|im_end|>"
    assert all(label in (-100, token) for token, label in zip(ids, labels, strict=True))


def test_an_answer_ends_at_the_first_end_the_configuration_names():
    template = "{% for m in messages %}<u>{{ m.content }}<eot>\n<eos>{% endfor %}"
    template += "{% if add_generation_prompt %}<u>{% endif %}"
    tokenizer = byte_tokenizer(template, special=("<u>", "<eos>"), plain=("<eot>", "<eom>"), eos="<eos>")
    eot, eom = tokenizer.convert_tokens_to_ids(["<eot>", "<eom>"])
    renderer = Renderer(tokenizer, "toy", eos_ids(tokenizer, SimpleNamespace(eos_token_id=[eot, eom])))
    answer = renderer.answer_ids([user("x")], "a<eom>b")
    assert answer[-1] == eot and eom not in answer
    assert tokenizer.decode(answer) == "a<eom>b<eot>"
    plain = Renderer(tokenizer, "toy").answer_ids([user("x")], "ab")
    assert tokenizer.decode(plain) == "ab<eot>\n<eos>"


def test_an_answer_without_an_end_in_the_template_gets_the_tokenizers():
    template = (
        "{% for m in messages %}[{{ m.content }}]{% endfor %}{% if add_generation_prompt %}[{% endif %}"
    )
    tokenizer = byte_tokenizer(template, special=("<eos>",), eos="<eos>")
    answer = Renderer(tokenizer, "toy").answer_ids([user("x")], "ab")
    assert tokenizer.decode(answer) == "ab]<eos>"
    without = Renderer(byte_tokenizer(template, special=("<eos>",)), "toy")
    with pytest.raises(UsageError, match="the tokenizer of 'toy' has no eos token; set `eos_token`"):
        without.answer_ids([user("x")], "ab")


def test_what_a_template_cannot_render_ends_a_training_with_one_sentence():
    first = [assistant("Hi"), user("Is 7 prime?"), assistant("Yes")]
    with pytest.raises(
        DataError, match=r"begins with the assistant's turn; .* \(in the conv.* begins 'Hi'\)"
    ):
        Renderer(llama2_tokenizer(), "llama2").conversation_ids(first)
    last = "{{ messages[-1].content }}<|im_end|>{% if add_generation_prompt %}<|im_start|>{% endif %}"
    # Opening a model whose template drops turns is no error: single turns may be all it is asked.
    dropper = Renderer(byte_tokenizer(last, special=SPECIAL, eos="<|im_end|>"), "dropper")
    with pytest.raises(DataError, match=r"drops message 1 \(user\)"):
        dropper.conversation_ids([user("a"), assistant("b"), user("c"), assistant("d")])


def test_an_answer_follows_the_prompt_although_the_template_rewrites_the_question_once_it_is_there():
    only_last = CHATML.replace("{{ m.content }}", "{{ '!' if loop.last else '' }}{{ m.content }}")
    tokenizer = byte_tokenizer(only_last, special=SPECIAL, eos="<|im_end|>")
    ids, labels = Renderer(tokenizer, "rewriter").conversation_ids([user("a"), assistant("b")])
    asked = "<|im_start|>user\n!a<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(ids) == asked + "b<|im_end|>"
    assert tokenizer.decode([label for label in labels if label != -100]) == "b<|im_end|>"


def test_thousands_of_special_tokens_do_not_slow_a_pair():
    names = [f"<|reserved_{n}|>" for n in range(6200)]
    tokenizer = byte_tokenizer(CHATML, special=(*SPECIAL, *names), eos="<|im_end|>")
    renderer = Renderer(tokenizer, "many")
    start = time.perf_counter()
    for n in range(100):
        asked = [user(f"Is {n} prime? <|reserved_{n}|>")]
        renderer.prompt_ids(asked)
        assert len(renderer.answer_ids(asked, f"Yes <|reserved_{n}|>")) == len(f"Yes <|reserved_{n}|>") + 1
        renderer.answer_ids(asked, "why?")
    # About 0.3 ms a pair; one regular expression over all names would take 200 ms.
    assert time.perf_counter() - start < 100 * 0.02
