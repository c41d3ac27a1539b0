"""Whole runs against servers that limit, refuse, hang and die: every row ends right, or the run says why."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest
from mock_openai import Limit, MockServer, answer, chat

from constitute.config import EngineConfig
from constitute.engines import open_engine
from constitute.engines.openai.engine import OpenAIEngine
from constitute.engines.openai.reach import proxy_for
from constitute.errors import EngineError, ExitCode, Filtered, RowError, Unanswered, UsageError
from constitute.pipeline.drive import drive
from constitute.store import Store
from constitute.types import Message, Principle, Prompt, Request, SamplingParams

CONFIG = EngineConfig(timeout_s=20, stall_s=10)


def request(text="Hi"):
    return Request(messages=(Message(role="user", content=text),), sampling=SamplingParams(max_tokens=5))


def prompts(count):
    return [Prompt(id=f"p{at}", messages=(Message(role="user", content=f"Hi {at}"),)) for at in range(count)]


async def reply(row, sample):
    return await sample.generate(request(row.id), step="reply")


async def run(url, folder, rows, config=CONFIG):
    """The counts of a run over `rows` prompts at the default number in flight."""
    engine = OpenAIEngine(url, config)
    try:
        with Store.open(folder, create=True) as store:
            return await drive(
                "s", prompts(rows), reply, engine=engine, store=store, seed=1, in_flight=config.in_flight
            )
    finally:
        await engine.close()


@pytest.mark.parametrize(
    ("per_s", "burst", "after", "config"),
    [
        # A limit of 600 a minute with a second's pause, 20 times as fast; and of 60 with 10 in hand.
        (200, 10, "0.05", CONFIG),
        (200, 10, "0.05", CONFIG.model_copy(update={"retries": 0})),
        (400, 1, "0.01", CONFIG),
        (200, 10, "0", CONFIG),
    ],
)
async def test_a_server_that_limits_requests_answers_every_row(
    mock_server, tmp_path, per_s, burst, after, config
):
    mock_server.limit = Limit(per_s, burst, after)
    started = time.monotonic()
    counts = await run(mock_server.url, tmp_path / "run", 200, config)
    assert (counts.ok, counts.failed) == (200, 0)
    assert len(mock_server.requests) == 200
    # The server lets 200 through in about 1 s; waiting for it adds little.
    assert (200 - burst) / per_s * 0.9 < time.monotonic() - started < 60
    assert mock_server.limit.refusals > 0


async def test_without_retry_after_the_client_finds_the_pace_itself(mock_server, tmp_path, monkeypatch):
    monkeypatch.setattr("constitute.engines.openai.limits._BACKOFF_S", 0.02)
    mock_server.limit = Limit(200, 10, None)
    counts = await run(mock_server.url, tmp_path / "run", 100)
    assert (counts.ok, counts.failed) == (100, 0)


async def test_a_ceiling_of_ones_own_keeps_a_servers_limit_from_being_met(mock_server, tmp_path):
    mock_server.limit = Limit(400, 25, "0.05")
    config = CONFIG.model_copy(update={"requests_per_minute": 20 * 60})
    started = time.monotonic()
    counts = await run(mock_server.url, tmp_path / "run", 30, config)
    # 20 at once and 10 more in half a second.
    assert counts.ok == 30 and 0.45 < time.monotonic() - started < 20
    assert mock_server.limit.refusals == 0


async def test_tokens_are_counted_by_what_the_answers_say(mock_server):
    body = chat()
    body["usage"] = {"prompt_tokens": 10, "completion_tokens": 2}
    mock_server.default = answer(body)
    # 200 tokens a second; each request is estimated at about 1,008 and uses 12.
    engine = OpenAIEngine(mock_server.url, CONFIG.model_copy(update={"tokens_per_minute": 12_000}))
    long = request().model_copy(update={"sampling": SamplingParams(max_tokens=1000)})
    started = time.monotonic()
    for _ in range(10):
        await engine.generate(long)
    # By estimate 10 of them would take 45 s. Each waits until its 12 tokens are made up for: 0.06 s.
    assert 0.5 < time.monotonic() - started < 20
    await engine.close()


async def test_nothing_but_429_ends_the_run_with_what_to_set(mock_server, tmp_path):
    mock_server.default = answer({"error": {"message": "limit 3/min"}}, 429, headers={"Retry-After": "0.05"})
    with pytest.raises(EngineError, match=r"for 0\.3 s with 429.*limit 3/min.*requests_per_minute") as told:
        await run(mock_server.url, tmp_path / "run", 20, CONFIG.model_copy(update={"timeout_s": 0.3}))
    assert told.value.exit_code == ExitCode.ENGINE_UNREACHABLE == 5
    with Store.open(tmp_path / "run") as store:
        # No row has failed: the next run asks them all again.
        assert store.counts("s") == {"ok": 0, "abstain": 0, "failed": 0}
    mock_server.default = answer({"error": {"code": "insufficient_quota", "message": "pay first"}}, 429)
    with pytest.raises(EngineError, match=r"no credit left for this key \(pay first\)"):
        await run(mock_server.url, tmp_path / "run", 20)
    mock_server.default = answer(chat())
    assert (await run(mock_server.url, tmp_path / "run", 20)).ok == 20


async def test_a_server_that_refuses_everything_ends_the_run_early(mock_server, tmp_path):
    words = {"error": {"message": "top_k is not supported, request 17"}}
    mock_server.default = answer(words, 400)
    config = CONFIG.model_copy(update={"in_flight": 4})
    with pytest.raises(EngineError, match=r"refused the first 8 requests in the same words \(400: top_k"):
        await run(mock_server.url, tmp_path / "run", 200, config)
    assert len(mock_server.requests) < 16
    with Store.open(tmp_path / "run") as store:
        assert store.counts("s")["failed"] == 0
    # One that is refused among answered ones fails by itself.
    mock_server.script = [answer(chat()), answer(words, 400)]
    mock_server.default = answer(chat())
    counts = await run(mock_server.url, tmp_path / "run", 20, config)
    assert (counts.ok, counts.failed) == (19, 1)
    # Where the run is over before 8, they have failed.
    mock_server.default = answer(words, 400)
    assert (await run(mock_server.url, tmp_path / "other", 3, config)).failed == 3


async def test_what_a_filter_withholds_is_counted_by_principle(mock_server, tmp_path):
    mock_server.default = answer(chat(reason="content_filter"))
    azure = {"error": {"code": "content_filter", "message": "The response was filtered (id 77)"}}
    engine = OpenAIEngine(mock_server.url, CONFIG)
    kind, harsh = (
        Principle(id=name, text=name, critique="c", revise="r", compare="p") for name in ("kind", "harsh")
    )

    async def judged(row, sample):
        principle = kind if row.id.endswith(("0", "1")) else harsh
        return await sample.generate(request(row.id), step="s", principle=principle)

    with Store.open(tmp_path / "run", create=True) as store:
        await drive("s", prompts(8), judged, engine=engine, store=store, seed=1)
        reasons = Counter({reason: count for _, reason, count in store.reasons("s")})
    withheld = "the server's filter withheld the answer (content_filter) under principle "
    assert reasons == {f"{withheld}kind": 2, f"{withheld}harsh": 6}
    mock_server.default = answer(azure, 400)
    with pytest.raises(Filtered, match=r"the server's filter refuses the prompt \(400\)"):
        await engine.generate(request())
    await engine.close()


async def test_silent_completions_behind_a_healthy_list_of_models_end_soon(mock_server, tmp_path):
    mock_server.default = answer(chat(), wait=240)
    config = CONFIG.model_copy(update={"timeout_s": 600.0, "stall_s": 0.2})
    started = time.monotonic()
    with pytest.raises(
        EngineError, match=r"answered nothing for 0\.4 s, not even one token; .*engine\.stall_s"
    ):
        await run(mock_server.url, tmp_path / "run", 40, config)
    assert time.monotonic() - started < 60


async def test_a_server_that_is_slow_but_works_is_waited_for(mock_server):
    # Answers come after 3 times `stall_s`, and one token at once, as from a server with a free place.
    engine = OpenAIEngine(mock_server.url, CONFIG.model_copy(update={"stall_s": 0.2}))
    mock_server.script = [answer(chat("late"), wait=0.7)]
    assert (await engine.generate(request())).text == "late"
    assert {body["max_tokens"] for body in mock_server.requests[1:]} == {1}
    await engine.close()


@pytest.fixture
def three():
    log: list[str] = []
    with MockServer(log) as one, MockServer(log) as two, MockServer(log) as last:
        yield [one, two, last], log


def over(servers, **update):
    urls = tuple(server.url for server in servers[1:])
    return CONFIG.model_copy(update={"endpoints": urls, **update})


async def test_endpoints_share_the_requests_and_the_cache(three, tmp_path):
    servers, log = three
    for server in servers:
        server.default = answer(chat(), wait=0.01)
    counts = await run(servers[0].url, tmp_path / "run", 300, over(servers, in_flight=32))
    assert counts.ok == 300 and len(log) == 300
    assert all(70 <= count <= 130 for count in Counter(log).values()), Counter(log)
    # Each was asked once what it takes.
    assert [len(server.firsts) for server in servers] == [1, 1, 1]
    # What the one answered is found again by a run that knows only the first.
    with Store.open(tmp_path / "run", create=False) as store:
        engine = OpenAIEngine(servers[0].url, CONFIG)
        again = await drive("t", prompts(3), reply, engine=engine, store=store, seed=1)
        both = OpenAIEngine(servers[0].url, over(servers))
        assert both.identity == engine.identity and again.asked == 3
        await both.close()
        await engine.close()


async def test_a_run_goes_on_until_the_last_endpoint_is_gone(three, tmp_path, monkeypatch):
    monkeypatch.setattr("constitute.engines.openai.watch._LOOK_PAUSES_S", (0.0, 0.01))
    servers, log = three
    for server in servers:
        server.default = answer(chat(), wait=0.02)

    async def kill():
        for server, after in ((servers[1], 20), (servers[0], 100)):
            while len(log) < after:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(server.kill)

    killing = asyncio.ensure_future(kill())
    counts = await run(servers[0].url, tmp_path / "run", 200, over(servers, in_flight=16, retries=0))
    await killing
    # Not even a retry was spent on the two that went down.
    assert (counts.ok, counts.failed) == (200, 0)
    for server in servers[2:]:
        assert Counter(log)[server.url] > 50
    engine = OpenAIEngine(servers[2].url, CONFIG)
    await asyncio.to_thread(servers[2].kill)
    with pytest.raises(EngineError, match="is gone"):
        await engine.generate(request())
    await engine.close()


async def test_an_endpoint_that_comes_back_is_used_again(three, monkeypatch):
    monkeypatch.setattr("constitute.engines.openai.watch._LOOK_PAUSES_S", (0.0, 0.01))
    monkeypatch.setattr("constitute.engines.openai.watch._LOOK_AGAIN_S", 0.05)
    servers, log = three
    engine = OpenAIEngine(servers[0].url, over(servers[:2]))
    port = int(servers[1].url.rpartition(":")[2])
    await asyncio.to_thread(servers[1].kill)
    for _ in range(4):
        await engine.generate(request())
    assert set(log) == {servers[0].url}
    with MockServer(log, port) as other:
        # Another model under the same address stays out.
        other.models = {"data": [{"id": "another"}]}
        for _ in range(10):
            await engine.generate(request())
            await asyncio.sleep(0.03)
        assert set(log) == {servers[0].url}
        other.models = {"data": [{"id": "mock", "owned_by": "somebody"}]}
        for _ in range(100):
            await asyncio.gather(*(engine.generate(request()) for _ in range(4)))
            await asyncio.sleep(0.03)
            if other.url in log:
                break
        assert other.url in log
    await engine.close()


async def test_an_endpoint_that_gives_only_errors_is_left_out(three, tmp_path, monkeypatch):
    monkeypatch.setattr("constitute.engines.openai.limits._BACKOFF_S", 0.001)
    servers, log = three
    servers[1].default = answer({"error": "broken"}, 500)
    counts = await run(servers[0].url, tmp_path / "run", 100, over(servers, in_flight=8))
    assert (counts.ok, counts.failed) == (100, 0)
    assert Counter(log)[servers[1].url] <= 16


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ({"data": [{"id": "other"}]}, "does not serve 'mock'; served: other"),
        ({"data": [{"id": "mock", "max_model_len": 99}]}, r"another model .*max_model_len: 99, not None"),
        ({"data": [{"id": "mock", "root": "org/x"}]}, r"\(root: 'org/x', not ''\)"),
    ],
)  # fmt: skip
def test_endpoints_of_another_model_are_refused(three, models, words):
    servers, _ = three
    servers[2].models = models
    with pytest.raises(UsageError, match=words):
        OpenAIEngine(servers[0].url, over(servers))


def test_endpoints_that_take_other_fields_are_refused(three):
    servers, _ = three
    servers[1].first = lambda payload: answer({"error": {"message": "no seed here", "param": "seed"}}, 400)
    with pytest.raises(
        UsageError, match=r"does not answer as .* does \(400: no seed here\); start both alike"
    ):
        OpenAIEngine(servers[0].url, over(servers))


PROXY = {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"}


@pytest.fixture
def environment(monkeypatch):
    for name in PROXY:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch.setenv


def test_proxies_come_from_the_environment_and_this_machine_is_reached_directly(environment):
    environment("HTTP_PROXY", "http://proxy:3128")
    environment("HTTPS_PROXY", "proxy:3129")
    environment("NO_PROXY", ".inside,10.0.0.9")
    assert proxy_for("http://models.test/v1") == "http://proxy:3128"
    assert proxy_for("https://models.test") == "http://proxy:3129"
    for direct in ("http://127.0.0.1:8000", "http://localhost:1", "http://[::1]:2", "http://127.9.9.9"):
        assert proxy_for(direct) is None
    assert proxy_for("https://gpu.inside") is None and proxy_for("http://10.0.0.9") is None
    environment("HTTPS_PROXY", "socks5://proxy:1080")
    with pytest.raises(
        UsageError, match=r"names a socks5 proxy for models\.test.*HTTPS_PROXY to an HTTP proxy"
    ):
        proxy_for("https://models.test")


async def test_every_request_goes_through_the_proxy(mock_server, environment):
    environment("HTTP_PROXY", mock_server.url)
    engine = open_engine("http://no-such-host.test/v1", CONFIG)
    assert (await engine.generate(request())).text == "Hello."
    assert mock_server.headers[0]["Host"] == "no-such-host.test"
    await engine.close()


async def test_rows_that_a_dead_server_left_are_not_the_rows_fault(mock_server, monkeypatch):
    monkeypatch.setattr("constitute.engines.openai.limits._BACKOFF_S", 0.001)
    engine = OpenAIEngine(mock_server.url, CONFIG.model_copy(update={"retries": 1}))
    mock_server.default = answer("down", 500)
    with pytest.raises(Unanswered, match="status 500"):
        await engine.generate(request())
    mock_server.default = answer(chat("x" * 3_000_000))
    with pytest.raises(RowError, match="far more than was asked for") as told:
        await engine.generate(request())
    assert not isinstance(told.value, Unanswered)
    await engine.close()
