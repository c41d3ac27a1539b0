"""Rollouts from a real `constitute serve --rollouts`: tokens, pushed weights and PPO against it."""

from __future__ import annotations

import asyncio
import json

import pytest
from tolerance import LOGPROB

from constitute.config import EngineConfig, load_config
from constitute.engines.swap import load_folder
from constitute.types import Message, Prompt, SamplingParams

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.vllm
PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [12, 13], [14, 15, 16, 17]]


@pytest.fixture
def engine(vllm_server_url, model_folder):
    from constitute.engines.swap import open_sampler

    engine = open_sampler(str(model_folder), EngineConfig(rollout_url=vllm_server_url))
    yield engine
    load_folder(engine, str(model_folder))
    asyncio.run(engine.close())


def reference(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def gap(engine, model, completions):
    from constitute.train.common.models import Actor
    from constitute.train.ppo.probe import Probe, measure

    probe = Probe(PROMPTS, completions, pad_id=0, token_budget=4096)
    return measure(engine, Actor(model), probe).gap.max


def test_tokens_and_their_log_probabilities_are_those_of_transformers(engine, transformers_engine):
    greedy = SamplingParams(max_tokens=24, temperature=0.0)
    ours = engine.generate_ids(PROMPTS, greedy, logprobs=False)
    theirs = transformers_engine.generate_ids(PROMPTS, greedy, logprobs=False)
    assert [one.token_ids for one in ours] == [one.token_ids for one in theirs]
    assert [one.finish_reason for one in ours] == [one.finish_reason for one in theirs]
    sampling = SamplingParams(max_tokens=16, temperature=0.7, seed=3)
    drawn = engine.generate_ids(PROMPTS, sampling, logprobs=True)
    again = engine.generate_ids(PROMPTS, sampling, logprobs=True)
    # The server may batch the requests differently the second time, and so add in another order.
    assert [one.token_ids for one in drawn] == [one.token_ids for one in again]
    assert drawn != engine.generate_ids(PROMPTS, sampling.model_copy(update={"seed": 4}), logprobs=True)
    ids = [one.token_ids for one in drawn]
    # Of temperature 1, though 0.7 was sampled from.
    for scores in (engine.score_ids(PROMPTS, ids), [list(one.logprobs) for one in drawn]):
        for found, expected in zip(scores, transformers_engine.score_ids(PROMPTS, ids), strict=True):
            assert found == pytest.approx(expected, **LOGPROB)


def test_pushed_weights_answer_at_once_the_tied_output_layer_too(engine, model_folder):
    from constitute.train.ppo.sync import named_weights

    model = reference(model_folder)
    assert model.config.tie_word_embeddings
    completions = [[20, 21, 22, 23, 24], [25, 26], [27]]
    assert gap(engine, model, completions) < 1e-4
    for step in range(2):
        torch.manual_seed(step)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * parameter.std().nan_to_num(0.1) * torch.randn_like(parameter))
        before = engine.identity.fingerprint
        assert gap(engine, model, completions) > 0.01
        engine.update_weights(named_weights(model))
        assert gap(engine, model, completions) < 1e-4
        assert engine.identity.fingerprint != before


def train(engine, model_folder, folder, **changes):
    """The metrics of a short PPO against the server."""
    from constitute.train.ppo.start import run_ppo

    settings = {
        "iterations": 2,
        "batch_size": 4,
        "epochs": 1,
        "max_new_tokens": 8,
        "learning_rate": 1e-3,
        "checkpoint_every": 2,
    } | changes
    sets = [f"train.ppo.{name}={value}" for name, value in settings.items()]
    config = load_config(None, sets, {"run": str(folder)})
    prompts = [
        Prompt(id=f"p{number}", messages=(Message(role="user", content=f"What is {number}?"),))
        for number in range(4)
    ]

    def length(_, completions):
        return [float(len(one.text)) for one in completions]

    run_ppo(config, prompts, policy=str(model_folder), reward=length, engine=engine)
    return [json.loads(line) for line in (folder / "ppo" / "metrics.jsonl").read_text().splitlines()]


def test_ppo_trains_against_the_server(engine, model_folder, tmp_path):
    lines = train(engine, model_folder, tmp_path)
    assert len(lines) == 2
    assert all(line["sync_gap_max"] < 1e-4 and line["sync_dtype"] == "float32" for line in lines)
    assert all(abs(line["sync_followed"] - 1) < 1e-3 for line in lines)
    # What the server holds at the end is the published policy, and no longer the model it was started on.
    completions = [[20, 21, 22], [25, 26], [27]]
    assert gap(engine, reference(tmp_path / "ppo"), completions) < 1e-4
    assert gap(engine, reference(model_folder), completions) > 1e-3


def test_the_server_samples_while_the_learner_works(engine, model_folder, tmp_path):
    lines = train(engine, model_folder, tmp_path, iterations=3, off_by=1, batch_size=8)
    assert all(line["sync_gap_max"] < 1e-4 for line in lines)
    for line in lines[:-1]:
        # The learner waited for less than sampling took: a part of it passed under the update.
        waited = line["seconds"]["generate"]
        assert line["seconds"]["ahead"] > 0 and (waited < line["seconds"]["ahead"] or line["iteration"] == 1)
    assert lines[1]["importance_weight"] != 1.0
