"""Rewards from a real HTTP service: in order, in batches, tried again, and never made up."""

import asyncio
import json
import threading
import time

import pytest
from aiohttp import web

from constitute.config import EngineConfig
from constitute.errors import DataError, EngineError
from constitute.train.rewards.service import ROWS_A_REQUEST, payload, service_rewards
from constitute.types import Completion, Message, Prompt


def lengths(body):
    """The usual service: each response's length."""
    return {"rewards": [len(text) for text in body["responses"]]}


class Service:
    """Answers the n-th request (from 0) with `answer(body, n)`: JSON, text, or (status, JSON)."""

    def __init__(self, answer, wait=0.0):
        self.answer, self.wait, self.bodies = answer, wait, []
        self.now = self.most = 0
        self.loop = asyncio.new_event_loop()

    def __enter__(self):
        ready = threading.Event()
        self.thread = threading.Thread(target=self._serve, args=(ready,), daemon=True)
        self.thread.start()
        assert ready.wait(60)
        return self

    def __exit__(self, *_):
        asyncio.run_coroutine_threadsafe(self.runner.cleanup(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()

    def _serve(self, ready):
        asyncio.set_event_loop(self.loop)
        app = web.Application()
        app.router.add_post("/get_reward", self._handle)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        self.loop.run_until_complete(self.runner.setup())
        self.loop.run_until_complete(web.TCPSite(self.runner, "127.0.0.1", 0).start())
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}/get_reward"
        ready.set()
        self.loop.run_forever()

    async def _handle(self, request):
        number, body = len(self.bodies), await request.json()
        self.bodies.append(body)
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(self.wait(number) if callable(self.wait) else self.wait)
        self.now -= 1
        found = self.answer(body, number)
        status, content = found if isinstance(found, tuple) else (200, found)
        text = content if isinstance(content, str) else json.dumps(content)
        return web.Response(text=text, status=status, content_type="application/json")


def rows(count):
    prompts = [Prompt(id=f"p{n}", messages=(Message(role="user", content=f"ask {n}"),)) for n in range(count)]
    return prompts, [Completion(text="x" * (n % 7 + 1)) for n in range(count)]


def ask(url, count=4, **settings):
    config = EngineConfig(**{"retries": 2, "timeout_s": 5.0, **settings})
    return asyncio.run(service_rewards(url, *rows(count), config))


def test_what_is_sent():
    several = Prompt(
        id="p",
        messages=(
            Message(role="system", content="Be kind."),
            Message(role="user", content="Hello"),
        ),
    )
    single = Prompt(id="q", messages=(Message(role="user", content="Why?"),))
    sent = payload([(several, Completion(text="Hi.")), (single, Completion(text="So."))])
    assert sent["query"] == ["system: Be kind.\n\nuser: Hello\n\nHi.", "Why?\n\nSo."]
    assert sent["prompts"] == ["system: Be kind.\n\nuser: Hello", "Why?"]
    assert sent["responses"] == ["Hi.", "So."]
    assert sent["messages"][1] == [
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "So."},
    ]


@pytest.mark.parametrize("key", ["rewards", "scores"])
def test_rewards_come_back_in_order_in_batches(key):
    count = 3 * ROWS_A_REQUEST + 5
    # Later requests are answered first, so that order cannot come by chance.
    with Service(lambda body, n: {key: lengths(body)["rewards"]}, wait=lambda n: 0.2 - 0.05 * n) as service:
        assert ask(service.url, count) == [float(n % 7 + 1) for n in range(count)]
    assert sorted(len(body["query"]) for body in service.bodies) == [5, *[ROWS_A_REQUEST] * 3]


def test_rows_with_the_service_at_once_are_bounded():
    with Service(lambda body, n: lengths(body), wait=0.03) as service:
        ask(service.url, 8 * ROWS_A_REQUEST, in_flight=2 * ROWS_A_REQUEST)
    assert service.most == 2


@pytest.mark.parametrize("first", [(500, "oops"), (429, {}), (200, "<html>"), (200, [1, 2])])
def test_a_passing_failure_is_tried_again(first):
    with Service(lambda body, n: first if n == 0 else lengths(body)) as service:
        assert ask(service.url) == [1.0, 2.0, 3.0, 4.0]
    assert len(service.bodies) == 2


def test_a_service_that_always_fails_is_an_engine_error():
    with Service(lambda body, n: (503, {"error": "loading"})) as service:
        with pytest.raises(EngineError, match=r"status 503 .*loading.* 3 times .*'p0'") as found:
            ask(service.url)
        assert service.url in str(found.value)
    assert len(service.bodies) == 3


def test_a_refusal_is_not_tried_again():
    with (
        Service(lambda body, n: (422, {"detail": "no such field"})) as service,
        pytest.raises(EngineError, match=r"refuses .*'p0' with status 422 .*no such field"),
    ):
        ask(service.url)
    assert len(service.bodies) == 1


def test_a_slow_service_runs_out_of_time():
    with Service(lambda body, n: lengths(body), wait=120.0) as service:
        start = time.monotonic()
        with pytest.raises(EngineError, match=r"no answer within 0\.2 s 2 times .*'p0'"):
            ask(service.url, timeout_s=0.2, retries=1)
        assert time.monotonic() - start < 60.0


def test_nobody_listening_is_an_engine_error():
    with Service(lambda body, n: lengths(body)) as service:
        url = service.url
    with pytest.raises(EngineError, match=r"a broken connection \(\w+\) 1 times .*'p0'"):
        ask(url, retries=0)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"rewards": [1, 2, 3]}, "answered 3 rewards for 4 responses, the first to prompt 'p0'"),
        ({"rewards": [1, 2, None, 4]}, "answered None for the response to prompt 'p2'"),
        ('{"rewards": [1, NaN, 3, 4]}', "answered nan for the response to prompt 'p1'"),
        ('{"rewards": [1, 2, 3, Infinity]}', "answered inf for the response to prompt 'p3'"),
        ({"rewards": [True, 2, 3, 4]}, "answered True for the response to prompt 'p0'"),
        ({"rewards": [1, "2", 3, 4]}, "answered '2' for the response to prompt 'p1'"),
        ({"rewards": None}, "without a list of `rewards`"),
        ({"reward": 1.0}, "without a list of `rewards`"),
    ],
)
def test_rewards_are_never_made_up(body, said):
    with Service(lambda _, n: body) as service, pytest.raises(DataError, match=said) as found:
        ask(service.url)
    assert service.url in str(found.value)
    assert len(service.bodies) == 1
