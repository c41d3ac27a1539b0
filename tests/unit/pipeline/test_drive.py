"""The driver: every row ends once, resumes, and nothing goes on with an engine that is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from mock_openai import MockServer, answer, chat
from scripted import ScriptedEngine, prompt

from constitute.config import EngineConfig
from constitute.engines.openai.engine import OpenAIEngine
from constitute.errors import Abstain, EngineError, RowError, RunMismatch
from constitute.pipeline import Counts, drive
from constitute.stages.base import Sample
from constitute.store import Store
from constitute.types import Prompt, Request, Response, SamplingParams


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "run") as opened:
        yield opened


async def reply(row: Prompt, sample: Sample) -> Response:
    if "[abstain]" in row.messages[0].content:
        raise Abstain("not mine to say")
    completion = await sample.generate(Request(messages=row.messages), step="reply")
    return Response(id=row.id, prompt=row, sample=0, response=f"{completion.text}")


def rows(*texts: str) -> list[Prompt]:
    return [prompt(f"r{at}", text) for at, text in enumerate(texts)]


async def test_rows_end_as_ok_abstain_or_failed(store: Store) -> None:
    engine = ScriptedEngine()
    given = rows("one", "[abstain]", "[too long]", "two", "[cut]")
    counts = await drive("s", given, reply, engine=engine, store=store, seed=1)
    assert counts == Counts(stage="s", ok=2, abstain=1, failed=2, asked=4)
    assert counts.total == len(given)
    ended = [(row.row_id, row.position, row.status, row.reason) for row in store.outcomes("s")]
    assert ended == [
        ("r0", 0, "ok", None),
        ("r1", 1, "abstain", "not mine to say"),
        ("r2", 2, "failed", "the prompt has 5000 tokens, the limit is 4096"),
        ("r3", 3, "ok", None),
        ("r4", 4, "failed", "reply was cut at 256 tokens"),
    ]


async def test_a_truncation_is_an_attempt_and_never_an_answer(store: Store) -> None:
    engine = ScriptedEngine()
    await drive("s", rows("[cut]"), reply, engine=engine, store=store, seed=1)
    [(stage, reason, answer)] = store.attempts_of("r0")
    assert (stage, reason, answer["text"]) == ("s", "reply was cut at 256 tokens", "cut off in the")
    assert list(store.answers_of("r0")) == []
    counts = await drive("t", rows("[cut]"), reply, engine=engine, store=store, seed=1, keep_truncated=True)
    assert counts.ok == 1 and len(list(store.answers_of("r0"))) == 1


async def test_a_second_run_asks_nothing(store: Store) -> None:
    given = rows("one", "[abstain]", "[too long]", "two")
    await drive("s", given, reply, engine=ScriptedEngine(), store=store, seed=1)
    engine = ScriptedEngine()
    counts = await drive("s", given, reply, engine=engine, store=store, seed=1)
    assert counts == Counts(stage="s", ok=2, abstain=1, failed=1, resumed=4)
    assert not engine.asked


async def test_failed_rows_are_tried_again_only_when_told_to(store: Store) -> None:
    async def broken(row: Prompt, sample: Sample) -> Response:
        raise RowError("the server was busy")

    given = rows("one", "two")
    await drive("s", given, broken, engine=ScriptedEngine(), store=store, seed=1)
    counts = await drive("s", given, reply, engine=ScriptedEngine(), store=store, seed=1)
    assert (counts.failed, counts.resumed) == (2, 2)
    counts = await drive("s", given, reply, engine=ScriptedEngine(), store=store, seed=1, retry=True)
    assert (counts.ok, counts.failed, counts.asked) == (2, 0, 2)


async def test_answers_depend_on_nothing_but_seed_stage_and_row(tmp_path: Path) -> None:
    async def texts(seed: int, order: int, in_flight: int, name: str) -> dict[str, object]:
        with Store.open(tmp_path / name) as store:
            given = rows(*"abcdefgh")[::order]
            engine = ScriptedEngine(delay_s=0.002)
            await drive("s", given, reply, engine=engine, store=store, seed=seed, in_flight=in_flight)
            return {row.row_id: row.data for row in store.outcomes("s")}

    first = await texts(1, 1, 1, "a")
    assert first == await texts(1, -1, 8, "b")
    other = await texts(2, 1, 1, "c")
    assert all(first[row] != other[row] for row in first)


async def test_a_row_of_another_content_is_refused(store: Store) -> None:
    await drive("s", rows("one"), reply, engine=ScriptedEngine(), store=store, seed=1)
    with pytest.raises(RunMismatch, match="row 'r0' of s was given something else"):
        await drive("s", rows("two"), reply, engine=ScriptedEngine(), store=store, seed=1)


async def test_the_same_question_in_flight_is_asked_once(store: Store) -> None:
    async def judge(row: Prompt, sample: Sample) -> list[float]:
        request = Request(messages=prompt("same").messages, sampling=SamplingParams(max_tokens=1))
        choice = await sample.choose(request, ("A", "B"), step="compare-ab")
        return [value for value in choice.logprobs if value is not None]

    engine = ScriptedEngine(delay_s=0.01)
    counts = await drive("s", rows(*"abcdef"), judge, engine=engine, store=store, seed=1)
    assert list(engine.asked.values()) == [1]
    assert (counts.ok, counts.asked, counts.reused) == (6, 1, 5)
    assert len({str(row.data) for row in store.outcomes("s")}) == 1


async def test_rows_in_flight_are_bounded_and_the_engine_is_kept_full(store: Store) -> None:
    engine = ScriptedEngine(delay_s=0.005)
    await drive("s", rows(*map(str, range(40))), reply, engine=engine, store=store, seed=1, in_flight=7)
    assert engine.most_in_flight == 7


async def test_rows_are_read_as_they_are_needed(store: Store) -> None:
    read = 0

    def endless() -> Iterator[Prompt]:
        nonlocal read
        while True:
            read += 1
            yield prompt(f"r{read}", "[dead]" if read == 30 else "fine")

    with pytest.raises(EngineError):
        await drive("s", endless(), reply, engine=ScriptedEngine(), store=store, seed=1, in_flight=4)
    assert read < 40


async def test_a_dead_engine_stops_everything_at_once_and_keeps_what_was_answered(store: Store) -> None:
    async def slow(row: Prompt, sample: Sample) -> Response:
        result = await reply(row, sample)
        if row.id != "r0":
            await asyncio.sleep(60)
        return result

    given = rows("quick", "waits", "[dead]", "never")
    async with asyncio.timeout(2):
        with pytest.raises(EngineError, match="the engine is gone"):
            await drive("s", given, slow, engine=ScriptedEngine(), store=store, seed=1, in_flight=3)
    assert [row.row_id for row in store.outcomes("s")] == ["r0"]
    assert len(list(store.answers_of("r1"))) == 1, "answered, and kept for the next run"


async def test_a_bug_stops_the_run_as_itself(store: Store) -> None:
    async def buggy(row: Prompt, sample: Sample) -> Response:
        if row.id == "r1":
            raise KeyError("a bug")
        await asyncio.sleep(30)
        raise AssertionError

    with pytest.raises(KeyError, match="a bug"):
        await drive("s", rows("a", "b", "c"), buggy, engine=ScriptedEngine(), store=store, seed=1)


async def test_a_label_the_server_did_not_score_is_an_attempt(store: Store) -> None:
    async def judge(row: Prompt, sample: Sample) -> list[float | None]:
        choice = await sample.choose(Request(messages=row.messages), ("A", "B"), step="compare-ab")
        return list(choice.logprobs)

    await drive("s", rows("[unscored]"), judge, engine=ScriptedEngine(), store=store, seed=1)
    [(_, reason, answer)] = store.attempts_of("r0")
    assert reason == "compare-ab: the server did not score B"
    assert answer is not None and answer["logprobs"][1] is None
    assert list(store.answers_of("r0")) == []


def server(mock: MockServer) -> OpenAIEngine:
    return OpenAIEngine(mock.url, EngineConfig(retries=0, in_flight=4))


DOWN = answer({"error": {"message": "overloaded"}}, 503, headers={"Retry-After": "0"})


async def test_after_an_outage_the_next_run_asks_every_row_again(
    store: Store, mock_server: MockServer
) -> None:
    given = rows(*"abcdefghijklmnopqrst")
    mock_server.script = [answer(chat(text)) for text in ("one", "two", "three")]
    mock_server.default = DOWN
    engine = server(mock_server)
    with pytest.raises(EngineError, match="in a row"):
        await drive("s", given, reply, engine=engine, store=store, seed=1, in_flight=4)
    await engine.close()
    assert {outcome.status for outcome in store.outcomes("s")} == {"ok"}
    assert store.counts("s")["ok"] == 3
    # What was tried is on record all the same.
    assert sum(len(list(store.attempts_of(row.id))) for row in given) >= 7
    mock_server.default = answer(chat("later"))
    engine = server(mock_server)
    counts = await drive("s", given, reply, engine=engine, store=store, seed=1, in_flight=4)
    await engine.close()
    assert (counts.ok, counts.failed, counts.resumed) == (20, 0, 3)


async def test_a_row_that_alone_gets_no_answer_has_failed(store: Store, mock_server: MockServer) -> None:
    mock_server.script = [answer(chat("one")), DOWN, answer(chat("three")), DOWN]
    engine = server(mock_server)
    counts = await drive("s", rows(*"abcd"), reply, engine=engine, store=store, seed=1, in_flight=1)
    # The second failed by what came after it, the last because the run was over.
    assert (counts.ok, counts.failed) == (2, 2)
    assert [outcome.status for outcome in store.outcomes("s")] == ["ok", "failed", "ok", "failed"]
    assert counts == Counts(stage="s", ok=2, failed=2, asked=4)
    again = await drive("s", rows(*"abcd"), reply, engine=engine, store=store, seed=1, in_flight=1)
    assert (again.failed, again.resumed) == (2, 4)
    await engine.close()


async def test_a_refusal_shows_as_well_that_the_server_is_there(
    store: Store, mock_server: MockServer
) -> None:
    refusal = answer({"error": {"message": "bad top_p"}}, 422)
    mock_server.script = [answer(chat("one")), *[DOWN] * 7, refusal]
    mock_server.default = DOWN
    engine = server(mock_server)
    with pytest.raises(EngineError, match="in a row"):
        await drive(
            "s", rows(*"abcdefghijklmnopqrst"), reply, engine=engine, store=store, seed=1, in_flight=1
        )
    await engine.close()
    assert store.counts("s")["failed"] == 8
