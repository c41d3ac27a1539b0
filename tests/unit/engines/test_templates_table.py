"""The table of chat templates: every template x every use, against golden token texts."""

from __future__ import annotations

import os
from datetime import date

import pytest
import template_rows as table
from template_rows import renderer_of, spelled, templates, turns

from constitute.types import Message, Request

pytest.importorskip("trl")
WRITE = os.environ.get("CONSTITUTE_GOLDEN") == "write"
NAMES = list(templates())
# Templates for images: they take a message's content as a list of parts and drop text.
PARTS = {name for name in NAMES if table.uses(name)["prompt"].startswith("refused")}
TEXT = [name for name in NAMES if name not in PARTS]


@pytest.mark.parametrize("name", NAMES)
def test_every_use_of_a_template(name: str) -> None:
    path = table.GOLDEN / f"{name}.txt"
    if WRITE:
        path.parent.mkdir(exist_ok=True)
        path.write_text(table.golden(name), encoding="utf-8")
    assert table.golden(name) == path.read_text(encoding="utf-8")


def test_the_table_is_whole() -> None:
    """Every golden file has its template; the page says what the renderer finds today."""
    if WRITE:
        for path in table.GOLDEN.glob("*.txt"):
            if path.stem not in NAMES:
                path.unlink()
        table.PAGE.write_text(table.page(), encoding="utf-8")
    assert {path.stem for path in table.GOLDEN.glob("*.txt")} == set(NAMES)
    assert table.page() == table.PAGE.read_text(encoding="utf-8")
    assert len(list(table.OWN.glob("*.jinja"))) >= 12 and len(NAMES) >= 80
    assert all(name.startswith(("idefics3", "llava_next", "smolvlm")) for name in PARTS)


@pytest.mark.parametrize("name", TEXT)
def test_what_is_trained_is_what_is_sampled(name: str) -> None:
    """The prompt of a training row is the engine's, and loss is on the answer and the end of its turn."""
    renderer = renderer_of(name)
    asked = turns("Why is the sky blue?")
    prompt, answer = renderer.prompt_ids(asked), renderer.answer_ids(asked, "Light\n\nscatters.")
    assert tuple(prompt) == renderer.ids(Request(messages=asked))
    (row,) = renderer.training_rows([*asked, Message(role="assistant", content="Light\n\nscatters.")])
    assert row == ([*prompt, *answer], [-100] * len(prompt) + answer)
    assert answer[-1] in renderer.eos_ids and not renderer.eos_ids & set(answer[:-1])
    said = spelled(renderer, answer[:-1])
    # Some templates close a response with a mark of their own before the end of the turn.
    assert said.strip().removesuffix("«<|END_RESPONSE|>»") == "Light\\n\\nscatters."


@pytest.mark.parametrize("name", TEXT)
def test_a_label_is_one_token_of_its_own(name: str) -> None:
    """A token a byte: an option begins where the answer begins, and nothing is scored with it."""
    renderer = renderer_of(name)
    ids = renderer.label_ids(Request(messages=turns("A or B?")), "A")
    assert [renderer.tokenizer.decode([token]) for token in ids][-1] == "A"
    assert len(ids) == 1 or renderer.tokenizer.decode(list(ids)) == " A"


@pytest.mark.parametrize("name", TEXT)
def test_no_text_becomes_a_control_token(name: str) -> None:
    """A message that spells every control token of the tokenizer has the ids of its letters."""
    renderer = renderer_of(name)
    names = [renderer.tokenizer.convert_ids_to_tokens(token) for token in sorted(renderer.control)]
    plain, attack = "q" * 9, " ".join(names)
    before = renderer.ids(Request(messages=turns(plain)))
    after = renderer.ids(Request(messages=turns(attack)))
    count = [[token for token in ids if token in renderer.control] for ids in (before, after)]
    assert count[0] == count[1]
    assert attack in renderer.tokenizer.decode(list(after))


@pytest.mark.parametrize("name", TEXT)
def test_the_prompt_is_the_templates_own_text(name: str) -> None:
    """Where nothing had to be closed or opened, the ids decode to what the tokenizer's template writes."""
    renderer = renderer_of(name)
    traits = renderer.traits
    switched = {} if traits.switch is None else {traits.switch.name: traits.switch.off}
    own = renderer.tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi?"}],
        tokenize=False,
        add_generation_prompt=True,
        strftime_now=lambda form: date.fromisoformat(table.DAY).strftime(form),
        **switched,
    )
    text = renderer.tokenizer.decode(list(renderer.ids(Request(messages=turns("Hi?")))))
    bridged = traits.bridge.over(own)
    assert text == bridged
    assert traits.thinking != "none" or bridged == own or not traits.bridge.add.strip()


THINKING = [name for name in TEXT if table.family(name).thought]


@pytest.mark.parametrize("name", THINKING)
def test_reasoning_is_kept_apart(name: str) -> None:
    assert table.uses(name)["thought"] == "reasoning 'why', answer 'Yes.'"
