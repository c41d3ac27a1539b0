"""A reward server over real HTTP: the very scores of the model, several clients, and rows that go wrong."""

import asyncio
import json

import pytest

pytest.importorskip("torch")

import torch
from aiohttp import ClientSession, web
from tiny_models import chatml_tokenizer
from tolerance import LOGPROB
from train_models import tiny_causal

from constitute.config import EngineConfig, RunConfig
from constitute.engines.render import Renderer
from constitute.errors import DataError, EngineError, UsageError
from constitute.progress import Silent
from constitute.train.rewards import server
from constitute.train.rewards.served import open_served
from constitute.train.rewards.server import Batcher, RewardServing, application
from constitute.train.rewards.service import service_rewards
from constitute.train.rewards.wire import Asked, prompt_label
from constitute.types import Completion, Message, Prompt

ANSWERS = ["Yes.", "It is, I think.", "No, why?"]
PROMPT = Prompt(id="p", messages=(Message(role="user", content="Is 7 prime?"),))


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory):
    """Folder of a random reward model that was normalised by mean 0.5 and deviation 2, and its scores."""
    from transformers import LlamaForSequenceClassification

    folder = tmp_path_factory.mktemp("reward")
    tokenizer = chatml_tokenizer()
    config = tiny_causal(len(tokenizer), positions=64).config
    config.num_labels, config.pad_token_id, config.mean, config.std = 1, tokenizer.pad_token_id, 0.5, 2.0
    torch.manual_seed(0)
    model = LlamaForSequenceClassification(config).eval()
    torch.nn.init.normal_(model.score.weight)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    renderer = Renderer(tokenizer, "rm")

    def score(ids):
        with torch.no_grad():
            return (model(torch.tensor([ids])).logits[0, 0].item() - 0.5) / 2.0

    start = renderer.prompt_ids(PROMPT.messages)
    expected = [score(start + renderer.answer_ids(PROMPT.messages, answer)) for answer in ANSWERS]
    text = tokenizer.decode(start)
    return folder, text, expected, lambda words: score(tokenizer(words)["input_ids"])


async def served(names, rewards, ask):
    """What `ask(session, url)` returns from a server on a free port of this machine."""
    runner = web.AppRunner(application(names, rewards))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with ClientSession() as session:
            return await ask(session, f"http://127.0.0.1:{runner.addresses[0][1]}")
    finally:
        await runner.cleanup()


def asked(config, sources, ask, policy=None):
    with open_served(config, sources, policy, Silent(), force=False) as (names, rewards):
        return asyncio.run(served(names, rewards, ask))


async def post(session, url, body, **headers):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with session.post(url, data=data, headers=headers) as told:
        return told.status, await told.json()


def test_every_format_gets_the_models_own_normalised_score(reward_model):
    folder, start, expected, score = reward_model
    ours = [(PROMPT, Completion(text=answer)) for answer in ANSWERS]
    cut = start + "It is, I"

    async def ask(session, url):
        queries = [start + answer + "<|im_end|>" for answer in ANSWERS]
        openrlhf = await post(
            session, f"{url}/get_reward", {"query": queries, "prompts": [start] * 3, "labels": [""] * 3}
        )
        cut_off = await post(session, f"{url}/get_reward", {"query": [cut], "prompts": [start]})
        verl = await post(session, f"{url}/classify", {"model": "rm", "input": queries[1]})
        client = await service_rewards(
            f"{url}/get_reward", *zip(*ours, strict=True), EngineConfig(retries=0, timeout_s=30)
        )
        async with session.get(f"{url}/health") as told:
            health = await told.json()
        return openrlhf, cut_off, verl, client, health

    openrlhf, cut_off, verl, client, health = asked(RunConfig(), str(folder), ask)
    assert openrlhf[0] == 200 and openrlhf[1]["rewards"] == pytest.approx(expected, **LOGPROB)
    assert cut_off[1]["rewards"] == pytest.approx([score(cut)], **LOGPROB)
    assert verl[1]["data"][0]["probs"] == pytest.approx(expected[1:2], **LOGPROB)
    assert client == pytest.approx(expected, **LOGPROB)
    assert health == {"status": "ok", "rewards": [folder.name], "rows": 8, "batches": 4, "waiting": 0}


def brevity(prompts, completions):
    """A reward that refuses one answer, as a judge refuses one that it cannot rate."""
    assert all(prompt.messages == PROMPT.messages and prompt.id == "p" for prompt in prompts)
    if any(completion.text == "odd" for completion in completions):
        raise DataError("this answer cannot be rated")
    return [-float(len(completion.text)) for completion in completions]


def test_a_function_gets_words_from_a_rendered_query_and_parts_add_up(reward_model):
    folder, start, expected, _ = reward_model

    async def ask(session, url):
        body = {
            "query": [start + "Yes.<|im_end|>"],
            "prompts": [start],
            "labels": [prompt_label(PROMPT)],
        }
        return await post(session, f"{url}/get_reward", body)

    from constitute.config.ppo import RewardSource

    given = [RewardSource(source=str(folder), weight=2.0, name="rm"), brevity]
    status, told = asked(RunConfig(), given, ask, policy=str(folder))
    assert status == 200
    assert told["extra_logs"] == {"rm": pytest.approx(expected[:1], **LOGPROB), "brevity": [-4.0]}
    assert told["rewards"] == pytest.approx([2 * expected[0] - 4.0], **LOGPROB)


def test_bad_rows_are_named_and_the_others_are_not_lost_with_them(reward_model):
    _, start, _, _ = reward_model
    conversation = [{"role": "user", "content": "Is 7 prime?"}]

    def body(*answers):
        turns = [[*conversation, {"role": "assistant", "content": answer}] for answer in answers]
        return {"messages": turns, "ids": ["p"] * len(answers)}

    async def ask(session, url):
        both = await asyncio.gather(
            post(session, f"{url}/get_reward", body("fine", "odd", "good", "odd")),
            post(session, f"{url}/get_reward", body("so", "well")),
        )
        nameless = await post(session, f"{url}/get_reward", {"query": [start + "Yes."], "prompts": [start]})
        broken = await post(session, f"{url}/get_reward", b"{")
        foreign = await post(session, f"{url}/get_reward", body("so"), Host="evil.example:80")
        page = await post(session, f"{url}/get_reward", body("so"), Origin="http://evil.example")
        return both, nameless, broken, foreign, page

    (odd, fine), nameless, broken, foreign, page = asked(RunConfig(), [brevity], ask)
    assert odd[0] == 422 and odd[1]["error"].startswith("row 1: ") and set(odd[1]["rows"]) == {"1", "3"}
    assert fine == (
        200,
        {"rewards": [-2.0, -4.0], "scores": [-2.0, -4.0], "extra_logs": {"brevity": [-2, -4]}},
    )
    assert nameless[0] == 422 and "needs the prompt's messages" in nameless[1]["error"]
    assert broken[0] == 400 and foreign[0] == page[0] == 403


def test_a_conversation_beyond_the_models_context_is_refused(reward_model):
    folder, start, _, _ = reward_model

    async def ask(session, url):
        return await post(session, f"{url}/get_reward", {"query": [start, start + "é" * 60]})

    status, told = asked(RunConfig(), str(folder), ask)
    assert status == 422 and "row 1: " in told["error"] and "at most 64" in told["error"]


def test_what_waits_while_the_model_works_is_one_batch():
    sizes = []

    def rewards(rows):
        import time

        sizes.append(len(rows))
        time.sleep(0.2)
        return ["why"] * len(rows)

    async def scenario():
        batcher = Batcher(rewards)
        work = asyncio.create_task(batcher.work())
        first = asyncio.create_task(batcher.score([Asked(query="a")]))
        await asyncio.sleep(0.05)
        await asyncio.gather(first, *(batcher.score([Asked(query="b")] * 3) for _ in range(5)))
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)

    asyncio.run(scenario())
    assert sizes == [1, 15]


def test_limits_and_a_service_behind_that_is_down(monkeypatch):
    def down(rows):
        raise EngineError("the judge is gone")

    async def ask(session, url):
        lost = await post(session, f"{url}/get_reward", {"query": ["a"]})
        monkeypatch.setattr(server, "_WAITING_CAP", 2)
        full = await post(session, f"{url}/get_reward", {"query": ["a"] * 3})
        monkeypatch.setattr(server, "BODY_CAP", 10)
        return lost, full

    lost, full = asyncio.run(served(["judge"], down, ask))
    assert lost == (503, {"error": "the judge is gone"}) and full[0] == 503
    monkeypatch.setattr(server, "BODY_CAP", 10)

    async def big(session, url):
        return await post(session, f"{url}/get_reward", {"query": ["a" * 100]})

    assert asyncio.run(served(["judge"], down, big))[0] == 413
    with pytest.raises(UsageError, match="--allow-remote"):
        RewardServing(host="0.0.0.0").check()


def test_loading_draws_no_bars(reward_model, capsys):
    from transformers.utils import logging

    logging.enable_progress_bar()
    with open_served(RunConfig(), str(reward_model[0]), None, Silent(), force=True):
        assert "Loading" not in capsys.readouterr().err
    assert not logging.is_progress_bar_enabled()
