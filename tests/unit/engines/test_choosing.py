"""Labels from next tokens, over a real renderer: what a judge writes before its letter does not hide it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from tiny_models import byte_tokenizer

from constitute.config import EngineConfig
from constitute.engines.base import Ids
from constitute.engines.choosing import after, choose_by_ids
from constitute.engines.render import Renderer
from constitute.errors import PromptTooLong
from constitute.types import Message, Request

PLAIN = "{% for m in messages %}{{ m['role'] + ':' + m['content'] + ';' }}{% endfor %}assistant:"
# It writes an empty block of thinking before every answer, and leaves it out of the prompt.
THINKS = (
    "{% for m in messages %}{{ m['role'] + ':' + ('<t>' if m['role'] == 'assistant' else '') + m['content'] }}"
    "{{ ';' }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)
ASKED = Request(messages=(Message(role="user", content="A or B?"),))


class Judge:
    """P of what it writes next by what it has written; whatever is not named shares the rest."""

    def __init__(self, template: str, writes: dict[str, dict[str, float]]) -> None:
        self.renderer = Renderer(byte_tokenizer(template, special=("<e>",), eos="<e>"), "judge")
        self.prompt = self.renderer.ids(ASKED)
        self.writes = writes
        self.asked: list[str] = []

    async def next(self, prompt: Ids, tokens: Sequence[int]) -> dict[int, float]:
        assert prompt[: len(self.prompt)] == self.prompt
        written = str(self.renderer.tokenizer.decode(list(prompt[len(self.prompt) :])))
        self.asked.append(written)
        shares = self.writes.get(written, {})
        names = {token: str(self.renderer.tokenizer.decode([token])) for token in tokens}
        return {token: math.log(shares.get(name, 1e-9)) for token, name in names.items()}

    async def p(
        self, labels: Sequence[str], *, spelled: bool = True, limit: int | None = None
    ) -> list[float]:
        choice = await choose_by_ids(self.renderer, ASKED, labels, self.next, limit=limit, spelled=spelled)
        return [math.exp(value) for value in choice.logprobs if value is not None]


async def test_a_judge_that_opens_with_a_bracket_has_a_label() -> None:
    judge = Judge(PLAIN, {"": {"(": 0.98, "A": 0.015, "B": 0.0007}, "(": {"A": 0.25, "B": 0.75}})
    # 0.015 + 0.98 * 0.25 and 0.0007 + 0.98 * 0.75, from two questions.
    assert await judge.p(("A", "B")) == pytest.approx([0.26, 0.7357], abs=1e-6)
    assert judge.asked == ["", "("]
    assert await judge.p(("A", "B"), spelled=False) == pytest.approx([0.015, 0.0007], rel=1e-9)


async def test_bold_letters_are_read_after_both_stars() -> None:
    judge = Judge(PLAIN, {"": {"*": 0.9, "A": 0.05}, "*": {"*": 1.0}, "**": {"A": 0.6, "B": 0.4}})
    assert await judge.p(("A", "B")) == pytest.approx([0.59, 0.36], abs=1e-6)
    assert judge.asked == ["", "*", "**"]


async def test_all_ratings_are_one_question_and_ten_another() -> None:
    shares = {str(rating): 0.1 for rating in range(2, 10)} | {"1": 0.19}
    judge = Judge(PLAIN, {"": shares, "1": {"0": 0.5}})
    ratings = [str(rating) for rating in range(1, 11)]
    assert await judge.p(ratings) == pytest.approx([0.095, *[0.1] * 8, 0.095], abs=1e-6)
    assert judge.asked == ["", "1"]


async def test_what_the_template_writes_before_every_answer_is_no_part_of_it() -> None:
    """However unlikely the model finds the block, the mass is that of the letters after it."""
    judge = Judge(THINKS, {"<t>": {"A": 0.7, "B": 0.2}})
    assert await judge.p(("A", "B")) == pytest.approx([0.7, 0.2], abs=1e-6)
    assert judge.asked == ["<t>"]


async def test_a_label_beyond_the_context_is_refused() -> None:
    judge = Judge(PLAIN, {"": {"A": 0.5, "B": 0.5}})
    with pytest.raises(PromptTooLong):
        await judge.p(("A", "B"), limit=len(judge.prompt) + 1)


async def test_more_tokens_than_a_server_scores_at_once_are_asked_in_parts() -> None:
    asked: list[int] = []

    async def scored(prompt: Ids, tokens: Sequence[int]) -> dict[int, float]:
        asked.append(len(tokens))
        return {token: -float(token) for token in tokens}

    found = await after((7,), scored)({(): tuple(range(300)), (1,): (5,)})
    assert asked == [128, 128, 44, 1]
    assert found == {(): {token: -float(token) for token in range(300)}, (1,): {5: -5.0}}


async def test_transformers_reads_letters_in_one_pass_a_beginning(tiny_model) -> None:
    """Against teacher-forced log-probabilities of the same engine."""
    pytest.importorskip("torch")
    from constitute.engines import open_engine

    engine = open_engine(str(tiny_model), EngineConfig(kind="transformers"))
    short = await engine.choose(ASKED, ("A", "B"))
    forced = [(await engine.score(ASKED, label)).total for label in ("A", "B")]
    assert short.logprobs == pytest.approx(forced, abs=1e-5)
    long = await engine.choose(ASKED, ("A longer reply", "Another one"))
    forced = [(await engine.score(ASKED, label)).total for label in long.labels]
    assert long.logprobs == pytest.approx(forced, abs=1e-5)
    await engine.close()
