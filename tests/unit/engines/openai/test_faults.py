"""Malformed answers of every kind, through the real engine and sampler: a value, a failed row or an end.

Each answer that a server may give is taken apart: every field is replaced by every wrong value. What comes
out must be the right value, `RowError` or `EngineError` with a sentence; what is stored must be finite.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from mock_openai import MockServer, answer, chat, chat_places, place
from tiny_models import chatml_tokenizer

from constitute.config import EngineConfig
from constitute.engines.openai.engine import OpenAIEngine
from constitute.errors import EngineError, RowError
from constitute.pipeline.sampler import Sampler
from constitute.pipeline.stage_run import StageRun
from constitute.progress import Silent
from constitute.store import Store
from constitute.types import Message, Request, SamplingParams

CONFIG = EngineConfig(timeout_s=20, retries=0, stall_s=10)
ASKED = Request(messages=(Message(role="user", content="Hi"),), sampling=SamplingParams(max_tokens=5))
NAN, INF = float("nan"), float("inf")
WRONG: tuple[Any, ...] = (
    None, True, 7, -1, 1.5, -9999.0, NAN, INF, -INF, "x", "", "\ud83d", [], [None], [[]], {}, {"a": 1},
)  # fmt: skip
A, B = math.log(0.6), math.log(0.3)


def paths(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value, itself first."""
    yield before
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, child in children:
        yield from paths(child, (*before, key))


def replaced(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    """`body` with `value` at `path`; the field is missing for `...`."""
    if not path:
        return value
    body = copy.deepcopy(body)
    inside = body
    for key in path[:-1]:
        inside = inside[key]
    if value is ...:
        del inside[path[-1]]
    else:
        inside[path[-1]] = value
    return body


def modes(body: Any) -> Iterator[bytes]:
    """The answer with each of its fields wrong in each way."""
    for path in list(paths(body))[1:]:
        for value in (*WRONG, ...):
            yield json.dumps(replaced(body, path, value)).encode()


class Asking:
    """An engine on a scripted server, asked through the sampler of a stage."""

    def __init__(self, server: MockServer, store: Store, config: EngineConfig) -> None:
        self.server, self.store = server, store
        self.engine = OpenAIEngine(server.url, config)
        self.row = 0

    async def outcome(self, body: Any, question: str) -> Any:
        """What comes out where the server answers with `body`: the answer, or the error."""
        self.server.default = answer(body)
        self.row += 1
        run = StageRun("s", self.engine, self.store, seed=1, progress=Silent())
        sample = Sampler(run, f"r{self.row}")
        # Each row asks something else, so that no answer is used again.
        asked = ASKED.model_copy(update={"messages": (Message(role="user", content=f"Hi {self.row}"),)})
        try:
            if question == "generate":
                return await sample.generate(asked, step="s")
            if question == "choose":
                return await sample.choose(asked, ("A", "B"), step="s")
            return await sample.score(asked, "AB", step="s")
        except (RowError, EngineError) as problem:
            assert str(problem) and "\n" not in str(problem)
            str(problem).encode()
            # One broken answer never ends the run.
            assert isinstance(problem, RowError), problem
            return problem

    def stored(self) -> list[dict[str, Any]]:
        rows = (self.store.answers_of(f"r{row}") for row in range(1, self.row + 1))
        return [found for row in rows for _, _, found in row]


@pytest.fixture
async def by_messages(mock_server: MockServer, tmp_path):
    with Store.open(tmp_path / "run", create=True) as store:
        asking = Asking(mock_server, store, CONFIG)
        yield asking
        await asking.engine.close()


@pytest.fixture
async def by_ids(mock_server: MockServer, tmp_path):
    chatml_tokenizer().save_pretrained(tmp_path / "tokenizer")
    (tmp_path / "tokenizer" / "config.json").write_text('{"model_type": "llama"}')
    mock_server.models = {"data": [{"id": "mock", "owned_by": "vllm", "max_model_len": 512}]}
    config = CONFIG.model_copy(update={"tokenizer": str(tmp_path / "tokenizer")})
    with Store.open(tmp_path / "run", create=True) as store:
        asking = Asking(mock_server, store, config)
        yield asking
        await asking.engine.close()


async def test_every_wrong_field_of_a_chat_answer(by_messages: Asking):
    body = chat("Hello.")
    body["choices"][0]["message"] |= {"reasoning": "", "refusal": None, "role": "assistant"}
    seen = {"ok": 0, "failed": 0}
    for mode in modes(body):
        found = await by_messages.outcome(mode, "generate")
        if isinstance(found, Exception):
            seen["failed"] += 1
            continue
        seen["ok"] += 1
        choice = json.loads(mode)["choices"][0]
        said = choice["message"]["content"]
        assert found.text == (said if isinstance(said, str) else "")
        assert (
            type(found.prompt_tokens) in (int, type(None)) and found.finish_reason == choice["finish_reason"]
        )
        found.text.encode()
    assert sum(seen.values()) > 178 and min(seen.values()) > 50, seen
    json.dumps(by_messages.stored(), allow_nan=False)


async def test_every_wrong_field_of_the_likeliest_tokens(by_messages: Asking):
    rest = place("(", {"(": math.log(0.9)})
    body = chat_places(place("A", {"A": A, "B": B, " A": math.log(0.01)}), rest)
    counts = {"ok": 0, "failed": 0}
    for mode in modes(body):
        found = await by_messages.outcome(mode, "choose")
        if isinstance(found, Exception):
            counts["failed"] += 1
            continue
        counts["ok"] += 1
        first = json.loads(mode)["choices"][0]["logprobs"]["content"][0]
        listed = {
            (entry["token"], entry["logprob"])
            for entry in first["top_logprobs"]
            if -700 < entry["logprob"] <= 0
        }
        for label, value, spelled in zip("AB", found.logprobs, (("A", " A"), ("B",)), strict=True):
            given = [math.exp(logprob) for token, logprob in listed if token in spelled]
            if first["token"] in spelled and first["token"] not in {token for token, _ in listed}:
                given.append(math.exp(first["logprob"]))
            if given and label not in found.censored:
                assert math.exp(value) == pytest.approx(sum(given)), mode
            # What the server did not list has a bound or nothing, never a value of its own.
            elif value is not None:
                assert label in found.censored and -20 < value <= 0, mode
        assert 0 <= found.mass <= 1
    assert sum(counts.values()) > 178 and min(counts.values()) > 50, counts
    json.dumps(by_messages.stored(), allow_nan=False)


async def test_every_wrong_field_of_vllms_answers(by_ids: Asking):
    ids = chatml_tokenizer().encode("Yes.")
    body = {
        "choices": [{"text": "Yes.", "finish_reason": "stop", "token_ids": ids}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 2},
    }
    counts = {"ok": 0, "failed": 0}
    for mode in modes(body):
        found = await by_ids.outcome(mode, "generate")
        counts["failed" if isinstance(found, Exception) else "ok"] += 1
        if not isinstance(found, Exception):
            choice = json.loads(mode)["choices"][0]
            assert found.text == choice["text"] and list(found.token_ids) == (choice.get("token_ids") or [])
    assert sum(counts.values()) > 178 and min(counts.values()) > 30, counts
    json.dumps(by_ids.stored(), allow_nan=False)


async def test_every_wrong_field_of_vllms_scores(by_ids: Asking):
    renderer = by_ids.engine._renderer
    a, b = (renderer.label_ids(ASKED, label)[0] for label in "AB")
    body = {"choices": [{"logprobs": {"top_logprobs": [{f"token_id:{a}": A, f"token_id:{b}": B}]}}]}
    counts = {"ok": 0, "failed": 0}
    for mode in modes(body):
        # An answer without the tokens asked for is that of an older vLLM, which is asked in another way.
        by_ids.engine._scores_ids = True
        found = await by_ids.outcome(mode, "choose")
        counts["failed" if isinstance(found, Exception) else "ok"] += 1
        if not isinstance(found, Exception):
            given = json.loads(mode)["choices"][0]["logprobs"]["top_logprobs"][0]
            assert found.logprobs == (given[f"token_id:{a}"], given[f"token_id:{b}"]) and found.mass <= 1
    assert sum(counts.values()) > 100 and counts["failed"] > 100, counts
    whole = len(by_ids.engine._renderer.ids(ASKED.model_copy(update={
        "messages": (Message(role="user", content="Hi 100"),)}))) + 2  # fmt: skip
    pair = renderer.label_ids(ASKED, "AB")
    places = [None, *({"9": {"logprob": -1.0}} for _ in range(whole - 1 - len(pair)))]
    places += [{str(token): {"logprob": -0.5}} for token in pair]
    for mode in modes({"choices": [{"prompt_logprobs": places[-2:]}]}):
        found = await by_ids.outcome(mode, "score")
        assert isinstance(found, Exception)
    json.dumps(by_ids.stored(), allow_nan=False)


BODIES: dict[str, Any] = {
    **{f"{value!r} alone": json.dumps(value).encode() for value in WRONG},
    "no JSON": b"{broken",
    "HTML": "<html>a proxy's page</html>",
    "nothing": b"",
    "half a character": b'\xff\xfe{"choices"',
    "100,000 deep": b'{"choices": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "100,000 deep in a field nobody reads": json.dumps(chat()).encode()[:-1] + b', "x": ' + b"[" * 100_000,
    "a number of 5,000 digits": b'{"choices": ' + b"9" * 5000 + b"}",
    "an error with status 200": {"error": {"message": "overloaded", "code": 502}},
    "an error that is a list": {"error": [1, 2]},
    "an answer of 3 MiB for 5 tokens": chat("x" * (3 << 20)),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("question", ["generate", "choose"])
async def test_bodies_that_are_no_answer_fail_the_row(by_messages: Asking, name, question):
    assert isinstance(await by_messages.outcome(BODIES[name], question), RowError)
    # The next row is answered.
    found = await by_messages.outcome(chat("A", top={"A": A, "B": B}), question)
    assert not isinstance(found, Exception)


@pytest.mark.parametrize("logprob", [NAN, INF, 0.4, 1e300, "0", None])
async def test_what_is_no_log_probability_is_refused(by_messages: Asking, logprob):
    """Each was once a label: 100 of 100 pairs with the mass 1."""
    found = await by_messages.outcome(json.dumps(chat("A", top={"A": A, "B": logprob})).encode(), "choose")
    assert isinstance(found, RowError) and "malformed at choices.0.logprobs.content.0" in str(found)
    assert by_messages.stored() == []


@pytest.mark.parametrize("logprob", [-9999.0, -745.2, -800, -INF])
async def test_a_placeholder_says_that_the_option_was_not_scored(by_messages: Asking, logprob):
    body = chat("A", top={"A": math.log(0.9), "C": math.log(0.05), "B": logprob})
    found = await by_messages.outcome(json.dumps(body).encode(), "choose")
    assert found.censored == ("B",) and math.exp(found.logprobs[1]) == pytest.approx(0.05)


async def test_probabilities_that_cannot_be_are_refused(by_messages: Asking):
    twice = chat("A", top={"A": A, "B": B})
    twice["choices"][0]["logprobs"]["content"][0]["top_logprobs"] *= 50
    found = await by_messages.outcome(twice, "choose")
    assert isinstance(found, RowError) and "lists the token 'A' twice" in str(found)
    more = chat("A", top={"A": math.log(0.6), "B": math.log(0.5)})
    found = await by_messages.outcome(more, "choose")
    assert isinstance(found, RowError) and "add up to 1.1" in str(found)
    # Rounding is none of it.
    close = chat("A", top={"A": 0.0005, "B": math.log(1e-5)})
    assert (await by_messages.outcome(close, "choose")).logprobs[0] == 0.0


@pytest.mark.parametrize(
    ("message", "reason", "words"),
    [
        ({"content": None, "refusal": "I cannot"}, "stop", r"filter withheld the answer \(refusal\)"),
        ({"content": "half"}, "content_filter", r"withheld the answer \(content_filter\)"),
        ({"content": [{"type": "refusal", "refusal": "no"}]}, "stop", "the server's filter"),
        ({"content": [{"type": "image_url"}]}, "stop", "a part of type 'image_url' without text"),
        ({"content": None, "reasoning": "Hmm"}, "length", "thought for all of its 5 tokens"),
        ({"content": None, "reasoning_content": "Hmm"}, "stop", "reasoning and no text"),
    ],
)  # fmt: skip
async def test_refusals_filters_and_thinking_are_named(by_messages: Asking, message, reason, words):
    body = {"choices": [{"message": message, "finish_reason": reason}]}
    with pytest.raises(RowError, match=words):
        raise await by_messages.outcome(body, "generate")


async def test_parts_are_joined_and_reasoning_is_kept_apart(by_messages: Asking):
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hmm."}]},
        {"type": "text", "text": "Hel"}, {"type": "text", "text": "lo."},
    ]  # fmt: skip
    body = {"choices": [{"message": {"content": parts}, "finish_reason": "stop"}]}
    found = await by_messages.outcome(body, "generate")
    assert (found.text, found.reasoning) == ("Hello.", "Hmm.")
    body = chat("Hello.")
    body["choices"][0]["message"]["reasoning_content"] = "Let me see."
    found = await by_messages.outcome(body, "generate")
    assert (found.text, found.reasoning) == ("Hello.", "Let me see.")
    found = await by_messages.outcome(chat("<think>\nHmm.\n</think>\n\nHello."), "generate")
    assert (found.text, found.reasoning) == ("Hello.", "Hmm.")
    hidden = chat("", "length")
    hidden["usage"]["completion_tokens_details"] = {"reasoning_tokens": 5}
    found = await by_messages.outcome(hidden, "generate")
    assert "thinking that the server does not show used all 5 tokens" in str(found)


async def test_an_older_vllm_scores_each_option_as_the_end_of_a_given_text(by_ids: Asking, mock_server):
    a, b = (by_ids.engine._renderer.label_ids(ASKED, label)[0] for label in "AB")
    older = {
        "choices": [{"text": "A", "logprobs": {"top_logprobs": [{"token_id:1": -0.1, "token_id:2": -3.0}]}}]
    }

    def given(prompt_length, token, value):
        return {
            "choices": [
                {"text": "x", "prompt_logprobs": [*[None] * prompt_length, {str(token): {"logprob": value}}]}
            ]
        }

    asked = by_ids.engine._renderer.ids(ASKED)
    mock_server.script = [answer(older), answer(given(len(asked), a, A)), answer(given(len(asked), b, B))]
    choice = await by_ids.engine.choose(ASKED, ("A", "B"))
    assert sorted(choice.logprobs) == pytest.approx(sorted((A, B)))
    assert [body["prompt"][-1] for body in mock_server.requests[1:]] == [a, b]
    # It is not asked in the newer way again.
    mock_server.script = [answer(given(len(asked), a, A)), answer(given(len(asked), b, B))]
    await by_ids.engine.choose(ASKED, ("A", "B"))
    assert len(mock_server.requests) == 5
