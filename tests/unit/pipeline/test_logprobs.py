"""What is no log-probability is never stored as an answer, whatever engine gave it."""

from __future__ import annotations

import json
import math

import pytest
from scripted import ScriptedEngine, prompt

from constitute.pipeline import drive
from constitute.store import Store
from constitute.types import Choice, Completion, Request, Response, Score

NAN, INF = math.nan, math.inf


class Odd(ScriptedEngine):
    """Gives the log-probabilities that it is told to."""

    def __init__(self, *logprobs: float | None) -> None:
        super().__init__()
        self.given = logprobs

    async def choose(self, request, labels, *, spelled=False):
        return Choice(labels=tuple(labels), logprobs=self.given)

    async def score(self, request, text):
        return Score(token_ids=(1, 2), logprobs=self.given)

    async def generate(self, request):
        return Completion(text="x", token_ids=(1, 2), logprobs=self.given)


async def ended(folder, engine, question):
    """(how the row ended, why, its answers, its attempts)."""

    async def work(row, sample):
        asked = Request(messages=row.messages)
        if question == "choose":
            found = await sample.choose(asked, ("A", "B"), step="s")
            return Response(id=row.id, prompt=row, sample=0, response=f"{found.mass:.3f}")
        await (
            sample.score(asked, "t", step="s") if question == "score" else sample.generate(asked, step="s")
        )
        return Response(id=row.id, prompt=row, sample=0, response="")

    with Store.open(folder, create=True) as store:
        await drive("s", [prompt("r0")], work, engine=engine, store=store, seed=1)
        (outcome,) = store.outcomes("s")
        answers = [answer for _, _, answer in store.answers_of("r0")]
        attempts = store.attempts_of("r0")
    json.dumps([answers, [attempt for _, _, attempt in attempts]], allow_nan=False)
    return outcome, answers, attempts


@pytest.mark.parametrize("question", ["choose", "score", "generate"])
@pytest.mark.parametrize("wrong", [NAN, INF, 0.4, 2e-3])
async def test_numbers_that_are_none_fail_the_row(tmp_path, question, wrong):
    outcome, answers, attempts = await ended(tmp_path / "run", Odd(-1.0, wrong), question)
    assert outcome.status == "failed" and f"a log-probability of {wrong} is none" in outcome.reason
    assert answers == [] and len(attempts) == 1


async def test_a_probability_of_zero_is_used_and_asked_again(tmp_path):
    outcome, answers, attempts = await ended(tmp_path / "run", Odd(math.log(0.9), -INF), "choose")
    assert outcome.status == "ok" and outcome.data["response"] == "0.900"
    assert answers == [] and attempts[0][1] == "s: B has the probability 0"
    assert attempts[0][2]["logprobs"] == [math.log(0.9), None]
    outcome, answers, _ = await ended(tmp_path / "text", Odd(-1.0, -INF), "score")
    assert outcome.status == "failed" and answers == []


@pytest.mark.parametrize(
    ("logprobs", "mass"),
    [
        ((math.log(0.6), math.log(0.3)), 0.9),
        ((math.log(0.6), None), 0.6),
        ((-9999.0, -9998.0), 0.0),
        ((-INF, -INF), 0.0),
        ((None, None), 0.0),
        # Bounds may reach above 1, and so may labels that begin alike.
        ((math.log(0.9), math.log(0.9)), 1.0),
        ((-745.2, -800.0), 0.0),
    ],
)
def test_mass_is_a_probability_whatever_is_added(logprobs, mass):
    assert Choice(labels=("A", "B"), logprobs=logprobs).mass == pytest.approx(mass)


def test_what_a_person_should_know_of_a_server_is_said_before_the_run(tmp_path, mock_server):
    from mock_openai import answer, chat

    from constitute.config import RunConfig
    from constitute.pipeline.session import run_stages
    from constitute.progress import Silent

    said = []

    class Listening(Silent):
        def note(self, text):
            said.append((text, len(mock_server.requests)))

    mock_server.first = lambda payload: answer(chat("A", "length"))
    config = RunConfig(model=mock_server.url, run=tmp_path / "run")
    counts = run_stages(config, ["generate"], prompts=[prompt("p")], progress=Listening())
    assert counts["generate"].ok == 1
    assert (f"{mock_server.url} gives no log-probabilities; labels need label.votes=sampled", 0) in said
    with Store.open(tmp_path / "run", readonly=True) as store:
        settings = (
            json.dumps(store.meta("claim:generate") or {}) + (tmp_path / "run" / "manifest.json").read_text()
        )
    assert "messages; max_tokens; temperature any; 0 log-probabilities" in settings
