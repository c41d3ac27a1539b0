"""Rollouts over HTTP against a scripted server: what is sent, what is read, how weights travel."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest
from mock_openai import answer

from constitute.config import EngineConfig
from constitute.engines import open_engine
from constitute.engines.base import RolloutEngine
from constitute.engines.swap import open_sampler, rollout_engine
from constitute.errors import EngineError, PromptTooLong, UsageError
from constitute.types import SamplingParams

torch = pytest.importorskip("torch")
PROMPTS = [[5, 6, 7], [8], [9, 10]]


class Worker:
    """What stands behind /collective_rpc: it reads the folder as vLLM's worker would."""

    def __init__(self) -> None:
        self.loaded = {}
        self.folder = Path()
        self.mode = 0
        self.answer = None

    def __call__(self, body):
        from safetensors.torch import load_file

        if body["method"] == "takes_weights":
            return {"takes_weights": True}
        assert body["method"] == "sync_folder"
        self.folder = Path(body["args"][0])
        self.mode = stat.S_IMODE(self.folder.stat().st_mode)
        self.loaded = {}
        for path in self.folder.glob("*.safetensors"):
            self.loaded |= load_file(path)
        return self.answer or {"tensors": len(self.loaded)}


@pytest.fixture
def worker(mock_server, tiny_model):
    entry = {"id": "m", "owned_by": "vllm", "max_model_len": 64, "root": str(tiny_model)}
    mock_server.models = {"data": [entry]}
    mock_server.control = worker = Worker()
    return worker


@pytest.fixture
def opened(mock_server, worker, tmp_path):
    from constitute.engines.openai.rollout import RolloutServer

    config = EngineConfig(timeout_s=5, retries=2, stall_s=2, sync_folder=str(tmp_path / "sync"))
    engine = RolloutServer(mock_server.url, config)
    yield engine
    asyncio.run(engine.close())


def completion(ids, logprobs=None, reason="stop"):
    choice = {"text": "x", "finish_reason": reason, "token_ids": ids}
    if logprobs is not None:
        choice["logprobs"] = {"token_logprobs": logprobs}
    return {"choices": [choice], "usage": {"prompt_tokens": 3}}


def test_token_ids_go_out_with_one_seed_a_prompt_and_come_back(mock_server, opened):
    mock_server.default = answer(completion([4, 2], [-0.5, -0.25]))
    sampling = SamplingParams(max_tokens=62, temperature=0.7, top_p=0.9, seed=40)
    found = opened.generate_ids(PROMPTS, sampling, logprobs=True)
    assert [(one.token_ids, one.logprobs) for one in found] == [((4, 2), (-0.5, -0.25))] * 3
    sent = sorted(mock_server.requests, key=lambda body: body["seed"])
    assert [(body["seed"], body["prompt"]) for body in sent] == list(zip((40, 41, 42), PROMPTS, strict=True))
    # The context holds 64 tokens: completions end where it does.
    assert [body["max_tokens"] for body in sent] == [61, 62, 62]
    assert all(
        (b["temperature"], b["top_p"], b["logprobs"], b["return_token_ids"]) == (0.7, 0.9, 0, True)
        for b in sent
    )
    mock_server.requests.clear()
    unseeded = sampling.model_copy(update={"seed": None})
    assert opened.generate_ids([[5]], unseeded, logprobs=False)[0].logprobs == ()
    assert mock_server.requests[0]["seed"] is None and "logprobs" not in mock_server.requests[0]


def test_given_tokens_are_scored_from_where_the_prompt_ends(mock_server, opened):
    def place(token, value):
        return {str(token): {"logprob": value}, "99": {"logprob": -0.1}}

    scores = [None, place(6, -1.0), place(7, -2.0), place(8, -3.0)]
    mock_server.script = [answer({"choices": [{"prompt_logprobs": scores}]})]
    assert opened.score_ids([[5, 6]], [[7, 8]]) == [[-2.0, -3.0]]
    assert mock_server.requests[0]["prompt"] == [5, 6, 7, 8]
    assert mock_server.requests[0]["prompt_logprobs"] == 0
    with pytest.raises(EngineError, match="log-probabilities of 0 of 4 prompt tokens"):
        mock_server.default = answer({"choices": [{}]})
        opened.score_ids([[5, 6]], [[7, 8]])


def test_trouble_with_one_rollout_ends_the_batch(mock_server, opened):
    mock_server.default = answer({"error": "busy"}, 503, headers={"Retry-After": "0"})
    with pytest.raises(EngineError, match=r"a rollout failed: .* status 503 \(busy\) 3 times"):
        opened.generate_ids(PROMPTS[:1], SamplingParams(max_tokens=2), logprobs=False)
    mock_server.default = answer(completion([]))
    with pytest.raises(EngineError, match="leaves out token ids"):
        opened.generate_ids(PROMPTS, SamplingParams(max_tokens=2), logprobs=False)
    mock_server.default = answer(completion([4, 5], [-1.0]))
    with pytest.raises(EngineError, match="1 log-probabilities for 2 tokens"):
        opened.generate_ids(PROMPTS, SamplingParams(max_tokens=2), logprobs=True)
    with pytest.raises(PromptTooLong):
        opened.generate_ids([[5] * 64], SamplingParams(max_tokens=2), logprobs=True)


def test_weights_arrive_bit_for_bit_through_a_private_folder_that_goes(worker, opened, tmp_path):
    tensors = {"a": torch.randn(3, 5).bfloat16(), "b": torch.randn(4, 2).T}

    def spoiled():
        for name, tensor in tensors.items():
            copy = tensor.clone()
            yield name, copy
            copy.fill_(float("nan"))

    before = opened.identity.fingerprint
    opened.update_weights(spoiled())
    assert worker.loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert worker.loaded[name].dtype == tensor.dtype and torch.equal(worker.loaded[name], tensor)
    assert worker.mode == 0o700 and worker.folder.parent == tmp_path / "sync"
    assert list((tmp_path / "sync").iterdir()) == []
    first = opened.identity.fingerprint
    opened.update_weights([("a", tensors["a"] + 1)])
    assert len({before, first, opened.identity.fingerprint}) == 3
    opened.update_weights([("a", tensors["a"])], fingerprint="step-7")
    assert opened.identity.fingerprint == "step-7"


def test_weights_that_do_not_arrive_are_told(mock_server, worker, opened, tmp_path, monkeypatch):
    monkeypatch.setattr("constitute.engines.openai.rollout._RESET_PAUSE_S", 0.01)
    weights = [("a", torch.ones(2))]
    worker.answer = {"error": "unreadable", "why": "no *.safetensors can be seen there"}
    with pytest.raises(EngineError, match=rf"cannot read {tmp_path}/sync/.*set engine\.sync_folder"):
        opened.update_weights(weights, fingerprint="new")
    assert opened.identity.fingerprint != "new"
    worker.answer = {"error": "load", "why": "KeyError: 'a'"}
    with pytest.raises(EngineError, match=r"did not load the new weights \(KeyError: 'a'\)"):
        opened.update_weights(weights)
    worker.answer = {"tensors": 7}
    with pytest.raises(EngineError, match="did not load"):
        opened.update_weights(weights)
    worker.answer = None
    mock_server.resets = [False, True]
    opened.update_weights(weights, fingerprint="new")
    assert mock_server.resets == [] and opened.identity.fingerprint == "new"
    mock_server.resets = [False] * 40
    with pytest.raises(EngineError, match="prefix cache"):
        opened.update_weights(weights)
    mock_server.control = None
    with pytest.raises(UsageError, match="constitute serve m --rollouts"):
        opened.update_weights(weights)


def test_a_dead_server_ends_the_rollouts(mock_server, opened):
    mock_server.kill()
    with pytest.raises(EngineError, match="is gone"):
        opened.generate_ids(PROMPTS, SamplingParams(max_tokens=2), logprobs=False)
    with pytest.raises(EngineError, match="is gone"):
        opened.update_weights([("a", torch.ones(2))])


async def test_a_server_that_takes_no_weights_is_refused_at_once(mock_server, worker):
    from constitute.engines.openai.rollout import RolloutServer

    plain = open_engine(mock_server.url, EngineConfig())
    assert not isinstance(plain, RolloutEngine)
    with pytest.raises(UsageError, match="cannot take new weights"):
        rollout_engine(plain)
    await plain.close()
    mock_server.control = None
    with pytest.raises(
        UsageError, match=r"takes no new weights .*answers 404.*constitute serve m --rollouts"
    ):
        RolloutServer(mock_server.url, EngineConfig())
    mock_server.control = lambda body: 1 / 0
    with pytest.raises(UsageError, match="answers 500"):
        RolloutServer(mock_server.url, EngineConfig())
    mock_server.control = worker
    mock_server.models["data"][0]["root"] = "org/elsewhere"
    with pytest.raises(UsageError, match=r"set engine\.tokenizer"):
        RolloutServer(mock_server.url, EngineConfig())


def test_opening_for_a_policy_pushes_its_weights_first(mock_server, worker, opened, tiny_model):
    from constitute.engines.identity import model_fingerprint

    assert open_sampler("m", EngineConfig(kind="fake")).identity.engine == "fake"
    engine = open_sampler(str(tiny_model), EngineConfig(rollout_url=mock_server.url))
    try:
        assert isinstance(engine, RolloutEngine) and rollout_engine(engine) is engine
        assert engine.identity.fingerprint == model_fingerprint(str(tiny_model))
        assert "model.embed_tokens.weight" in worker.loaded
    finally:
        asyncio.run(engine.close())
