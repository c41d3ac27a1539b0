"""What a server takes and gives, found out by a tiny request; each kind of server is scripted."""

from __future__ import annotations

import math

import pytest
from mock_openai import answer, chat, listing, place, refused

from constitute.config import EngineConfig
from constitute.engines import open_engine
from constitute.engines.openai.abilities import FIRST_WORDS
from constitute.errors import EngineError, RowError, UsageError
from constitute.types import Message, Request, SamplingParams

CONFIG = EngineConfig(timeout_s=5, retries=1, stall_s=2)
HI = (Message(role="user", content="Hi"),)


def request(**sampling):
    return Request(messages=HI, sampling=SamplingParams(max_tokens=5, **sampling))


def picky(**rules):
    """A server that refuses each field named in `rules` whose value fails its rule, in the words given."""

    def first(payload):
        for field, (allowed, reply) in rules.items():
            if field in payload and not allowed(payload[field]):
                return reply
        return listing(payload)

    return first


def never(value):
    return False


O_SERIES = picky(
    max_tokens=(never, refused("Unsupported parameter: 'max_tokens' is not supported with this model. Use "
                               "'max_completion_tokens' instead.", "max_tokens")),
    temperature=(lambda value: value == 1, refused("Unsupported value: 'temperature' does not support 0 with "
                 "this model. Only the default (1) value is supported.", "temperature")),
    top_p=(never, refused("Unsupported parameter: 'top_p' is not supported with this model.", "top_p")),
    logprobs=(never, refused("You are not allowed to request logprobs from this model.")),
    stop=(never, refused("Unsupported parameter: 'stop' is not supported with this model.", "stop")),
)  # fmt: skip


async def test_a_server_that_takes_all_is_asked_once_for_one_token(mock_server):
    engine = open_engine(mock_server.url, CONFIG)
    [first] = mock_server.firsts
    assert first == {
        "model": "mock", "messages": [{"role": "user", "content": FIRST_WORDS}], "max_tokens": 1,
        "temperature": 0.0, "top_p": 1.0, "seed": 1, "stop": ["\n\n\n"], "logprobs": True, "top_logprobs": 20,
    }  # fmt: skip
    assert engine.notes == () and set(engine.lacks) == {"score", "prefill"}
    assert engine.identity.defaults == (
        "messages; max_tokens; temperature any; 20 log-probabilities; "
        "fields that are not sent are of its own choice"
    )
    await engine.close()


async def test_a_model_of_fixed_temperature_is_asked_in_its_own_fields_or_refused(mock_server):
    mock_server.first = O_SERIES
    engine = open_engine(mock_server.url, CONFIG)
    # One refusal a field, and the answer.
    assert len(mock_server.firsts) == 6
    assert (
        "temperature one" in engine.identity.defaults and "takes no stop, top_p" in engine.identity.defaults
    )
    assert [note.partition(" takes ")[2] for note in engine.notes[:2]] == [
        "only a temperature of 1", "no top_p but its own",
    ]  # fmt: skip
    mock_server.default = answer(chat("one two END three"))
    completion = await engine.generate(request(temperature=1.0, seed=3, stop=("END",)))
    # Where the server takes no stop strings, the answer is cut here.
    assert completion.text == "one two " and completion.finish_reason == "stop"
    assert mock_server.requests[0] == {
        "model": "mock", "messages": [{"role": "user", "content": "Hi"}], "max_completion_tokens": 5,
        "temperature": 1.0, "seed": 3,
    }  # fmt: skip
    with pytest.raises(UsageError, match=r"takes no temperature of 0\.7, only its own; set temperature to 1"):
        await engine.generate(request(temperature=0.7))
    with pytest.raises(UsageError, match=r"takes no top_p of 0\.9"):
        await engine.generate(request(top_p=0.9))
    with pytest.raises(UsageError, match=r"no log-probabilities; set label\.votes=sampled"):
        await engine.choose(request(), ("A", "B"))
    assert "label.votes=sampled" in engine.lacks["choose"]
    assert len(mock_server.requests) == 1
    await engine.close()


@pytest.mark.parametrize(
    ("most", "words", "asked"),
    [
        (5, "Requested sample logprobs of 20, which is greater than max allowed: 5", 3),
        (10, "top_logprobs must be between 0 and 10", 2),
        (1, "Invalid value for 'top_logprobs': 20", 6),
        (0, "logprobs are not supported by this model", 2),
    ],
)
async def test_fewer_log_probabilities_are_taken_where_the_server_grants_fewer(
    mock_server, most, words, asked
):
    mock_server.first = picky(top_logprobs=(lambda value: value <= most, refused(words)))
    engine = open_engine(mock_server.url, CONFIG)
    assert len(mock_server.firsts) == asked
    assert f"; {most} log-probabilities" in engine.identity.defaults
    if most:
        mock_server.default = answer(chat("A", top={"A": math.log(0.9), "C": math.log(0.05)}))
        choice = await engine.choose(request(), ("A", "B"))
        assert mock_server.requests[0]["top_logprobs"] == most
        assert choice.censored == ("B",) and math.exp(choice.logprobs[1]) == pytest.approx(0.05)
        assert f"lists {most} likeliest tokens" in engine.notes[0]
    else:
        assert "choose" in engine.lacks
    await engine.close()


async def test_log_probabilities_that_are_left_out_are_known_before_the_run(mock_server):
    mock_server.first = lambda payload: answer(chat("A", "length"))
    engine = open_engine(mock_server.url, CONFIG)
    assert "choose" in engine.lacks and "; 0 log-probabilities" in engine.identity.defaults
    five = {"A": -0.1, "B": -3.0, "C": -4.0, "D": -5.0, "E": -6.0}
    mock_server.first = lambda payload: answer(chat("A", "length", five))
    assert "; 5 log-probabilities" in open_engine(mock_server.url, CONFIG).identity.defaults


async def test_a_server_without_words_for_what_it_refuses_is_asked_for_each_field(mock_server):
    def first(payload):
        bad = {"seed", "max_tokens"} & set(payload) or payload.get("top_logprobs", 0) > 5
        return answer({"detail": "Bad Request"}, 422) if bad else listing(payload)

    mock_server.first = first
    engine = open_engine(mock_server.url, CONFIG)
    assert engine.identity.defaults.startswith(
        "messages; max_completion_tokens; temperature any; 5 log-probabilities; takes no seed"
    )
    assert len(mock_server.firsts) <= 11
    await engine.close()


@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [
        (answer({"error": {"message": "bad key"}}, 401), EngineError, r"a valid key into \$OPENAI_API_KEY"),
        (answer({"error": {"message": "no such model"}}, 404), EngineError, "does not serve 'mock'"),
        (answer("<html>hello</html>"), EngineError, "refuses the plainest request"),
        (answer({"error": {"message": "never"}}, 400), EngineError, "plainest request .*never"),
        (answer({"error": {"message": "boom", "code": 500}}), EngineError, r"500 \(boom\) to 5"),
        (answer({"error": {"message": "x"}}, 500, headers={"Retry-After": "0"}), EngineError, "server's log"),
        (answer({"error": {"message": "slow"}}, 429, headers={"Retry-After": "9"}), EngineError, "429.*slow"),
        (answer({"error": {"code": "insufficient_quota", "message": "pay"}}, 429), EngineError, "no credit"),
        (answer(b'{"a": ' + b"[" * 100_000), EngineError, "refuses the plainest request"),
    ],
)  # fmt: skip
def test_a_server_that_answers_nothing_useful_is_refused_in_one_sentence(
    mock_server, monkeypatch, reply, error, words
):
    monkeypatch.setattr("constitute.engines.openai.limits._BACKOFF_S", 0.001)
    mock_server.first = lambda payload: reply
    with pytest.raises(error, match=words) as told:
        open_engine(mock_server.url, CONFIG)
    assert "\n" not in str(told.value)


def test_a_busy_server_is_waited_for_when_it_is_opened(mock_server):
    busy = [answer("busy", 429, headers={"Retry-After": "0.01"})] * 9
    busy.append(answer("starting", 503, headers={"Retry-After": "0.01"}))
    mock_server.first = lambda payload: busy.pop() if busy else listing(payload)
    assert open_engine(mock_server.url, CONFIG).notes == ()
    assert len(mock_server.firsts) == 11


async def test_vllm_without_a_tokenizer_gets_messages_and_all_its_fields(mock_server):
    mock_server.models = {"data": [{"id": "mock", "owned_by": "vllm", "root": "org/elsewhere"}]}
    config = CONFIG.model_copy(update={"chat_template_kwargs": {"reasoning_effort": "low"}})
    engine = open_engine(mock_server.url, config)
    assert set(engine.lacks) == {"score"}
    await engine.generate(request(top_p=0.9))
    neutral = {
        "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
        "top_k": 0,
        "top_p": 0.9, "temperature": 1.0, "max_tokens": 5,
        "chat_template_kwargs": {"enable_thinking": False, "thinking": False, "reasoning_effort": "low"},
    }  # fmt: skip
    assert neutral.items() <= mock_server.requests[0].items()
    await engine.generate(request().model_copy(update={"thinking": 40, "prefill": ""}))
    sent = mock_server.requests[1]
    assert sent["max_tokens"] == 45 and sent["chat_template_kwargs"]["enable_thinking"] is True
    await engine.generate(request().model_copy(update={"prefill": "Well, <|im_end|>"}))
    sent = mock_server.requests[2]
    assert sent["messages"][-1] == {"role": "assistant", "content": "Well, < |im_end|>"}
    assert (sent["add_generation_prompt"], sent["continue_final_message"]) == (False, True)
    await engine.close()


async def test_another_server_gets_what_the_user_names_and_no_more(mock_server):
    kwargs = {"reasoning_effort": "low", "enable_thinking": False}
    engine = open_engine(mock_server.url, CONFIG.model_copy(update={"chat_template_kwargs": kwargs}))
    await engine.generate(request(top_k=3))
    assert mock_server.requests[0] == {
        "model": "mock", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5, "temperature": 1.0,
        "top_p": 1.0, "top_k": 3, "reasoning_effort": "low",
        "chat_template_kwargs": {"enable_thinking": False},
    }  # fmt: skip
    # What is sent with every request is part of every cache key.
    plain = open_engine(mock_server.url, CONFIG)
    assert (
        engine.identity != plain.identity and plain.identity == open_engine(mock_server.url, CONFIG).identity
    )
    with pytest.raises(RowError, match="cannot continue a begun answer"):
        await engine.generate(request().model_copy(update={"prefill": "Well,"}))
    await engine.close()


async def test_a_model_that_thinks_is_noted(mock_server):
    body = {"choices": [{"message": {"content": None, "reasoning": "Hmm"}, "finish_reason": "length"}]}
    mock_server.first = lambda payload: answer(body)
    engine = open_engine(mock_server.url, CONFIG)
    assert any("mock thinks before it answers" in note for note in engine.notes)
    too_small = refused("Could not finish the message because max_tokens or model output limit was reached.")
    mock_server.first = lambda payload: too_small
    assert "choose" in open_engine(mock_server.url, CONFIG).lacks
    await engine.close()


async def test_openings_are_read_from_the_first_four_tokens(mock_server):
    engine = open_engine(mock_server.url, CONFIG)
    places = [
        place("(", {"(": math.log(0.978), "A": math.log(0.015), "B": math.log(0.007)}),
        place("A", {"A": math.log(0.7), "B": math.log(0.3)}),
        place(")", {")": 0.0}),
    ]
    body = {
        "choices": [
            {"message": {"content": "(A)"}, "finish_reason": "length", "logprobs": {"content": places}}
        ]
    }
    mock_server.default = answer(body)
    choice = await engine.choose(request(), ("A", "B"), spelled=True)
    assert math.exp(choice.logprobs[0]) == pytest.approx(0.015 + 0.978 * 0.7)
    assert mock_server.requests[0]["max_tokens"] == 4
    await engine.close()
