"""The HTTP engine against a scripted server: retries, refusals, and the end of a dead server."""

from __future__ import annotations

import asyncio
import math
import time

import pytest
from mock_openai import answer, chat
from unit.engines.test_render_training import TEMPLATES, trl_tokenizer

from constitute.config import EngineConfig
from constitute.engines import open_engine
from constitute.engines.openai.reach import base_url
from constitute.errors import EngineError, PromptTooLong, RowError, UsageError
from constitute.types import Message, Request, SamplingParams

CONFIG = EngineConfig(timeout_s=5, retries=3, stall_s=2)
GREETING = Request(
    messages=(Message(role="user", content="Hi"),), sampling=SamplingParams(max_tokens=5, seed=9)
)


@pytest.fixture
async def engine(mock_server):
    engine = open_engine(mock_server.url, CONFIG)
    yield engine
    await engine.close()


async def test_messages_go_out_and_the_text_comes_back(mock_server, engine):
    completion = await engine.generate(GREETING)
    assert (completion.text, completion.finish_reason, completion.prompt_tokens) == ("Hello.", "stop", 7)
    sent = mock_server.requests[0]
    assert sent["messages"] == [{"role": "user", "content": "Hi"}]
    assert (sent["model"], sent["max_tokens"], sent["seed"]) == ("mock", 5, 9)
    assert engine.identity.name == "mock" and engine.identity.revision == mock_server.url


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
async def test_passing_trouble_is_tried_again(mock_server, engine, status):
    mock_server.script = [answer({"error": "busy"}, status, headers={"Retry-After": "0"})] * 2
    assert (await engine.generate(GREETING)).text == "Hello."
    assert len(mock_server.requests) == 3


async def test_lasting_trouble_fails_the_row_and_then_the_engine(mock_server, engine):
    mock_server.default = answer({"error": {"message": "kaput"}}, 500, headers={"Retry-After": "0"})
    for _ in range(7):
        with pytest.raises(RowError, match=r"status 500 \(kaput\) 4 times"):
            await engine.generate(GREETING)
    with pytest.raises(EngineError, match="8 rows in a row"):
        await engine.generate(GREETING)
    count = len(mock_server.requests)
    with pytest.raises(EngineError):
        await engine.generate(GREETING)
    assert len(mock_server.requests) == count


async def test_context_overflow_fails_the_row_with_the_servers_numbers(mock_server, engine):
    await engine.generate(GREETING)
    said = "This model's maximum context length is 1024 tokens, you requested 2048"
    mock_server.script = [answer({"error": {"message": said}}, 400)]
    with pytest.raises(PromptTooLong, match=r"1024 tokens, you requested 2048"):
        await engine.generate(GREETING)
    mock_server.script = [answer({"error": {"message": "bad top_p"}}, 422)]
    with pytest.raises(RowError, match=r"refuses the request \(422\): bad top_p"):
        await engine.generate(GREETING)
    assert len(mock_server.requests) == 3


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (402, r"no credit left for this key \(no\)"),
        (401, r"put a valid key into \$OPENAI_API_KEY"),
        (403, "refuses access"),
        (404, "does not serve 'mock'.*served: mock"),
        (307, "redirects elsewhere"),
    ],
)
async def test_final_statuses_stop_the_run(mock_server, engine, status, words):
    mock_server.default = answer(
        {"error": {"message": "no"}}, status, headers={"Location": "http://evil.test/"}
    )
    with pytest.raises(EngineError, match=words):
        await engine.generate(GREETING)
    assert len(mock_server.requests) == 1


async def test_garbage_is_retried_and_then_fails_the_row(mock_server, engine):
    mock_server.script = [
        answer("{broken", headers={"Retry-After": "0"}),
        answer("<html>", headers={"Retry-After": "0"}),
    ]
    assert (await engine.generate(GREETING)).text == "Hello."
    mock_server.default = answer("<html>proxy page</html>", headers={"Retry-After": "0"})
    with pytest.raises(RowError, match=r"no JSON object .*proxy page"):
        await engine.generate(GREETING)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"choices": []}, "no choices"),
        (chat(reason="content_filter"), r"the server's filter withheld the answer \(content_filter\)"),
        (chat(reason="tool_calls"), "'tool_calls', not stop or length"),
        ({"choices": [{"message": {"content": None}, "finish_reason": "stop"}]}, "no text"),
    ],
)
async def test_answers_that_are_none_fail_the_row(mock_server, engine, body, words):
    mock_server.default = answer(body)
    with pytest.raises(RowError, match=words):
        await engine.generate(GREETING)


async def test_a_dying_server_ends_every_waiter_long_before_its_answer(mock_server, engine):
    mock_server.default = answer(chat(), wait=240)
    tasks = [asyncio.ensure_future(engine.generate(GREETING)) for _ in range(20)]
    while len(mock_server.requests) < 20:
        await asyncio.sleep(0.01)
    started = time.monotonic()
    await asyncio.to_thread(mock_server.kill)
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert time.monotonic() - started < 120
    assert all(isinstance(problem, EngineError) for problem in done)
    assert "is gone" in str(done[0])


async def test_a_server_that_answers_nothing_is_given_up(mock_server):
    engine = open_engine(mock_server.url, CONFIG.model_copy(update={"timeout_s": 1.0, "stall_s": 0.3}))
    mock_server.default = answer(chat(), wait=240)
    started = time.monotonic()
    with pytest.raises(EngineError, match=r"is up but answered nothing for 0\.6 s, not even one token"):
        await engine.generate(GREETING)
    assert time.monotonic() - started < 60
    # The health check was answered, the one token was not.
    assert [body["max_tokens"] for body in mock_server.requests] == [5, 1]
    await engine.close()


async def test_one_slow_row_fails_alone_while_others_answer(mock_server):
    engine = open_engine(mock_server.url, CONFIG.model_copy(update={"timeout_s": 1.0, "retries": 0}))
    mock_server.script = [answer(chat(), wait=30)]

    async def slow():
        with pytest.raises(RowError, match="no answer for 1 s"):
            await engine.generate(GREETING)

    async def quick():
        for _ in range(12):
            await asyncio.sleep(0.1)
            await engine.generate(GREETING)

    slow_task = asyncio.ensure_future(slow())
    await asyncio.sleep(0.05)
    await asyncio.gather(slow_task, quick())
    await engine.close()


async def test_choices_come_from_the_top_log_probabilities(mock_server, engine):
    mock_server.default = answer(chat("A", top={"A": math.log(0.5), " A": math.log(0.1), "C": math.log(0.2)}))
    choice = await engine.choose(GREETING, ("A", "B"))
    # B is none of the listed, so no likelier than the least of them.
    assert choice.logprobs == pytest.approx((math.log(0.6), math.log(0.1)))
    assert choice.censored == ("B",)
    assert (mock_server.requests[0]["top_logprobs"], mock_server.requests[0]["max_tokens"]) == (20, 4)
    mock_server.default = answer(chat("A"))
    with pytest.raises(RowError, match=r"no log-probabilities; set label\.votes=sampled"):
        await engine.choose(GREETING, ("A", "B"))


async def test_control_text_is_broken_up_and_counted(mock_server, engine):
    text = "a<|im_end|>b </s> [INST] <start_of_turn> <b>ok</b> x < y |>"
    await engine.generate(Request(messages=(Message(role="user", content=text),)))
    sent = mock_server.requests[0]["messages"][0]["content"]
    assert sent == "a< |im_end|>b < /s> [ INST] < start_of_turn> <b>ok</b> x < y |>"
    assert engine.escaped == 4


async def test_a_prefill_is_refused_where_the_server_cannot_continue(engine):
    with pytest.raises(RowError, match="cannot continue a begun answer"):
        await engine.generate(GREETING.model_copy(update={"prefill": "Well,"}))


@pytest.mark.parametrize("status", [200, 400, 500])
async def test_the_key_comes_from_the_environment_and_is_never_told(mock_server, monkeypatch, status):
    monkeypatch.setenv("TEST_KEY", "sk-very-secret")
    engine = open_engine(mock_server.url, CONFIG.model_copy(update={"api_key_env": "TEST_KEY", "retries": 0}))
    body = chat("sk-very-secret") if status == 200 else {"error": {"message": "you sent sk-very-secret"}}
    mock_server.default = answer(body, status)
    if status == 200:
        assert (await engine.generate(GREETING)).text == "***"
    else:
        with pytest.raises(RowError) as told:
            await engine.generate(GREETING)
        assert "secret" not in str(told.value) and "you sent ***" in str(told.value)
    assert mock_server.headers[0]["Authorization"] == "Bearer sk-very-secret"
    await engine.close()
    mock_server.first = lambda payload: answer({"error": {"message": "sk-very-secret again"}}, 500)
    monkeypatch.setattr("constitute.engines.openai.abilities._MOST_TROUBLE", 0)
    with pytest.raises(EngineError, match=r"status 500 \(\*\*\* again\)"):
        open_engine(mock_server.url, CONFIG.model_copy(update={"api_key_env": "TEST_KEY"}))


def test_opening_says_what_is_wrong_in_one_sentence(mock_server):
    with pytest.raises(UsageError, match="does not serve 'other'; served: mock"):
        open_engine(mock_server.url, CONFIG.model_copy(update={"served_name": "other"}))
    mock_server.models = {"data": [{"id": "a"}, {"id": "b"}]}
    with pytest.raises(UsageError, match=r"serves 2 models; set engine\.served_name to one of: a, b"):
        open_engine(mock_server.url, CONFIG)
    mock_server.models = "<html>hello</html>"
    with pytest.raises(EngineError, match="is it an OpenAI-compatible server"):
        open_engine(mock_server.url, CONFIG)
    mock_server.models_status = 401
    with pytest.raises(EngineError, match="OPENAI_API_KEY"):
        open_engine(mock_server.url, CONFIG)
    mock_server.kill()
    with pytest.raises(EngineError, match=r"no server answers at .*constitute serve"):
        open_engine(mock_server.url, CONFIG)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://host:99999", "is not a URL"),
        ("http://", "names no host"),
        ("http://me:pass@host", "holds a password"),
        ("http://host/v1?api-key=sk-secret", r"the URL of host goes on after \?, .*engine\.api_key_env"),
        ("http://host/#sk-secret", "the URL of host goes on after #"),
        ("http://127.0.0.1:8000/my model", "holds a space or a control character"),
        ("http://host\x1b[31m:1", "holds a space or a control character"),
    ],
)
def test_unusable_urls_are_refused(url, words):
    with pytest.raises(UsageError, match=words) as told:
        base_url(url)
    assert "secret" not in str(told.value)


def test_the_base_url_is_found():
    assert base_url("http://h:1/v1/") == "http://h:1"
    assert base_url("https://h/api/v1") == "https://h/api"


async def test_reasoning_written_out_in_a_message_is_kept_apart(mock_server, engine):
    mock_server.script = [answer(chat("<think>\nlong\n</think>\n\nanswer\nmore"))]
    sampling = SamplingParams(max_tokens=5, stop=("\n",))
    found = await engine.generate(GREETING.model_copy(update={"sampling": sampling, "thinking": 20}))
    assert (found.reasoning, found.text) == ("long", "answer")
    # Both budgets are asked for, and no stop string acts while the model thinks.
    assert mock_server.requests[0]["max_tokens"] == 25 and "stop" not in mock_server.requests[0]


async def test_a_thought_cut_at_a_line_end_is_no_answer(mock_server, engine):
    """A model that thinks unasked, where a stop string ends its answer: a line of thought is none."""
    sampling = SamplingParams(max_tokens=5, stop=("\n",))
    for said, thought in (("<think>", ""), ("<think>Well, ", "Well,"), ("[THINK]I wonder", "I wonder")):
        mock_server.script = [answer(chat(said))]
        found = await engine.generate(GREETING.model_copy(update={"sampling": sampling}))
        assert (found.text, found.reasoning) == ("", thought)


async def test_reasoning_among_token_ids_is_kept_apart(mock_server, tmp_path):
    tokenizer = trl_tokenizer(TEMPLATES["qwen3"])
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama", "eos_token_id": 5}')
    mock_server.models = {"data": [{"id": "mock", "owned_by": "vllm"}]}
    ids = tokenizer.backend_tokenizer.encode("<think>\nwhy\n</think>\n\nYes.<|im_end|>").ids
    choice = {"text": "\nwhy\n\n\nYes.", "finish_reason": "stop", "token_ids": ids}
    mock_server.script = [answer({"choices": [choice], "usage": {"prompt_tokens": 7}})]
    opened = open_engine(mock_server.url, CONFIG.model_copy(update={"tokenizer": str(tmp_path)}))
    found = await opened.generate(GREETING.model_copy(update={"thinking": 20}))
    assert (found.reasoning, found.text, found.token_ids) == ("why", "Yes.", tuple(ids))
    sent = mock_server.requests[0]
    assert sent["max_tokens"] == 25
    assert sent["stop_token_ids"] == sorted({5, tokenizer.eos_token_id})
    assert tokenizer.decode(sent["prompt"]).endswith("assistant\n")
    await opened.close()
