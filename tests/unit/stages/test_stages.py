"""generate, critique and revise: what is asked, word for word, and what is made of the answers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from scripted import constitution, principle, prompt

from constitute.config import GenerateConfig, ReviseConfig
from constitute.constitution.draw import draw
from constitute.errors import RowError, UsageError
from constitute.stages.generate import generate
from constitute.stages.labels.choice import comparison_turn
from constitute.stages.revise import STAGE, nothing_to_mend, revise
from constitute.types import Choice, Comparison, Completion, Message, Principle, Request, Response


class Asked:
    """A sample that answers from a list and keeps what it was asked."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []
        self.steps: list[tuple[str, int, str]] = []

    async def generate(
        self, request: Request, *, step: str, index: int = 0, principle: Principle | None = None
    ) -> Completion:
        self.requests.append(request)
        self.steps.append((step, index, principle.id if principle else ""))
        return Completion(text=self.answers.pop(0))

    async def choose(
        self,
        request: Request,
        labels: Sequence[str],
        *,
        step: str,
        principle: Principle | None = None,
        spelled: bool = False,
    ) -> Choice:
        raise AssertionError("these stages choose nothing")


def said(request: Request) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in request.messages]


ROW = Response(id="p/0", prompt=prompt("p", "Hello?"), sample=0, response="Go away.")


async def test_generate_asks_the_prompt_and_strips_the_answer() -> None:
    sample = Asked("  Hi there.\n")
    config = GenerateConfig(max_tokens=9, temperature=0.3, top_p=0.8, stop=("END",), system="Be terse.")
    row = await generate(prompt("p", "Hello?"), sample, config, 3)
    asked = (Message(role="system", content="Be terse."), Message(role="user", content="Hello?"))
    kept = prompt("p", "Hello?").model_copy(update={"messages": asked})
    assert row == Response(id="p/3", prompt=kept, sample=3, response="Hi there.")
    assert said(sample.requests[0]) == [("system", "Be terse."), ("user", "Hello?")]
    assert sample.steps == [("response", 3, "")]
    sampling = sample.requests[0].sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.stop) == (
        9,
        0.3,
        0.8,
        ("END",),
    )


async def test_a_prompt_s_own_system_message_stands() -> None:
    own = prompt("p").model_copy(
        update={"messages": (Message(role="system", content="mine"), Message(role="user", content="Hello?"))}
    )
    sample = Asked("Hi.")
    await generate(own, sample, GenerateConfig(system="Be terse."))
    assert said(sample.requests[0]) == [("system", "mine"), ("user", "Hello?")]


async def test_critics_revisers_and_the_judge_see_the_system_message() -> None:
    sample = Asked("Go away.", "It is rude.", "Hello to you.")
    row = await generate(prompt("p", "Hello?"), sample, GenerateConfig(system="Be terse."), 0)
    row = await revise(row, sample, ReviseConfig(), constitution())
    assert [said(request)[:2] for request in sample.requests] == [
        [("system", "Be terse."), ("user", "Hello?")]
    ] * 3
    pair = Comparison(id="p/0-rev", prompt=row.prompt, a=row.response, b=row.final)
    (turn,) = comparison_turn(pair, principle("kind"))
    assert "\n\nsystem: Be terse.\nuser: Hello?\n\n(A) Go away.\n\n(B) Hello to you." in turn.content


async def test_an_empty_response_fails_the_row() -> None:
    with pytest.raises(RowError, match="the response is empty"):
        await generate(prompt("p"), Asked(" \n"), GenerateConfig())


async def test_a_round_appends_turns_and_the_next_starts_from_the_revision() -> None:
    sample = Asked("Rude.", "Hello.", "Cold.", "Hello, friend.")
    row = await revise(ROW, sample, ReviseConfig(rounds=2), constitution("kind"))
    assert [(s.critique, s.revision, s.principle_id) for s in row.steps] == [
        ("Rude.", "Hello.", "kind"),
        ("Cold.", "Hello, friend.", "kind"),
    ]
    assert (row.final, row.response, row.id) == ("Hello, friend.", "Go away.", "p/0")
    asked = "Is it kind?\nAnswer with the critique alone."
    wanted = "Make it kind.\nWrite only the new reply."
    first = [("user", "Hello?"), ("assistant", "Go away."), ("user", asked)]
    assert said(sample.requests[0]) == first
    assert said(sample.requests[1]) == [*first, ("assistant", "Rude."), ("user", wanted)]
    second = [("user", "Hello?"), ("assistant", "Hello."), ("user", asked)]
    assert said(sample.requests[2]) == second
    assert said(sample.requests[3]) == [*second, ("assistant", "Cold."), ("user", wanted)]
    assert sample.steps == [(step, n, "kind") for n in (0, 1) for step in ("critique", "revision")]


async def test_without_critique_the_revision_is_asked_at_once() -> None:
    sample = Asked("Hello.")
    row = await revise(ROW, sample, ReviseConfig(critique=False), constitution("kind"))
    assert row.steps[0].critique == ""
    assert said(sample.requests[0])[-1] == ("user", "Make it kind.\nWrite only the new reply.")
    assert len(sample.requests[0].messages) == 3


async def test_each_round_draws_its_principle_by_row_and_round() -> None:
    whole = constitution("kind", "brief", "safe", "calm")
    sample = Asked(*["said"] * 16)
    row = await revise(ROW, sample, ReviseConfig(rounds=8), whole)
    drawn = [step.principle_id for step in row.steps]
    assert drawn == [draw(whole, "p/0", n).id for n in range(8)]
    assert len(set(drawn)) > 1


@pytest.mark.parametrize(
    ("answers", "reason"), [(["", "x"], "critique of round 1"), (["x", " "], "revision of round 1")]
)
async def test_an_empty_step_fails_the_row(answers: list[str], reason: str) -> None:
    with pytest.raises(RowError, match=reason):
        await revise(ROW, Asked(*answers), ReviseConfig(), constitution("kind"))


async def test_braces_in_texts_stay_as_they_are() -> None:
    odd = principle("kind").model_copy(update={"critique": "Is {{ it }} {% kind %}?", "revise": "{{ row }}"})
    sample = Asked("{{ critique }}", "{{ 7 * 7 }}")
    row = await revise(
        ROW, sample, ReviseConfig(), constitution("kind").model_copy(update={"principles": (odd,)})
    )
    assert said(sample.requests[0])[-1][1].startswith("Is {{ it }} {% kind %}?")
    assert said(sample.requests[1])[-2:] == [
        ("assistant", "{{ critique }}"),
        ("user", "{{ row }}\nWrite only the new reply."),
    ]
    assert row.final == "{{ 7 * 7 }}"


@pytest.mark.parametrize(
    ("critique", "clean"),
    [
        ("Nothing to mend.", True),
        ("**There is nothing to mend.**", True),
        ("There's nothing to change in the answer!", True),
        ("Nothing needs to be revised", True),
        ("No changes are needed.", True),
        ("No revision necessary.", True),
        ("No, nothing to mend.", True),
        ("The answer is nothing to mend.", False),
        ("Nothing to mend, but it should say why.", False),
        ("There is nothing to mend except its tone.", False),
        ("No changes are needed. It is rude, though.", False),
        ("It does nothing to mend the matter.", False),
        ("", False),
    ],
)
def test_a_critique_that_finds_nothing_says_nothing_else(critique: str, clean: bool) -> None:
    assert nothing_to_mend(critique) is clean


async def test_where_nothing_is_to_mend_no_revision_is_asked_and_the_row_says_so() -> None:
    config = ReviseConfig(rounds=2, skip_clean=True)
    sample = Asked("Nothing to mend.", "It is rude.", "Good day.")
    row = await revise(ROW, sample, config, constitution())
    assert [step for step, _, _ in sample.steps] == ["critique", "critique", "revision"]
    assert [(s.critique, s.revision, s.skipped) for s in row.steps] == [
        ("Nothing to mend.", "Go away.", True),
        ("It is rude.", "Good day.", False),
    ]
    asked = said(sample.requests[0])[-1][1]
    assert asked.endswith("alone.\nIf there is nothing to mend, answer only: Nothing to mend.")
    assert Response.model_validate_json(row.model_dump_json()) == row


async def test_by_default_every_critique_is_followed_by_a_revision_and_rows_are_stored_as_before() -> None:
    sample = Asked("Nothing to mend.", "Good day.")
    row = await revise(ROW, sample, ReviseConfig(), constitution())
    assert [step for step, _, _ in sample.steps] == ["critique", "revision"]
    assert "nothing to mend" not in said(sample.requests[0])[-1][1]
    assert set(row.model_dump(mode="json")["steps"][0]) == {"principle_id", "critique", "revision"}


def test_skipping_needs_a_critique() -> None:
    with pytest.raises(UsageError, match="skip_clean needs a critique"):
        STAGE.check(ReviseConfig(skip_clean=True, critique=False))
