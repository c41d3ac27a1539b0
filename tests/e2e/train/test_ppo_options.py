"""PPO's options on the enumerable task: adapters, engine log-probabilities, several rewards, checkpoints."""

import json
import math

import pytest
import torch
from e2e.train.test_gibbs import END, LIMIT, PROMPT, exact, ones, sequences
from tolerance import FIGURE, LOGPROB
from train_models import CausalRollouts, tiny_causal, word_tokenizer

from constitute.config import load_config
from constitute.config.train import PPOConfig
from constitute.errors import EngineError
from constitute.progress import Silent
from constitute.train.ppo.run import train_ppo
from constitute.train.ppo.start import run_ppo
from constitute.train.rewards.parts import RewardPart
from constitute.types import Message, Prompt


class WithLogprobs(CausalRollouts):
    """Gives the log-probabilities of what it sampled, as engines do."""

    def generate_ids(self, prompts, sampling, *, logprobs):
        completions = super().generate_ids(prompts, sampling, logprobs=logprobs)
        scores = self.score_ids(prompts, [completion.token_ids for completion in completions])
        return [
            completion.model_copy(update={"logprobs": tuple(score)})
            for completion, score in zip(completions, scores, strict=True)
        ]


def start_in(folder, seed=0):
    start = folder / "start"
    if not start.exists():
        model = tiny_causal(vocab=3, width=32, eos=END, seed=seed)
        # Adapters leave the output layer alone: it has to be able to say something as it stands.
        torch.nn.init.normal_(model.lm_head.weight, std=0.1)
        model.save_pretrained(start)
        word_tokenizer(["0", "1", "</s>"], eos="</s>", pad="0").save_pretrained(start)
    return start


def learn(folder, reward=ones, engine=CausalRollouts, **changes):
    start = start_in(folder)
    settings = {
        "iterations": 4, "batch_size": 32, "epochs": 2, "max_new_tokens": LIMIT, "kl_coef": 0.5,
        "learning_rate": 3e-3, "critic_learning_rate": 1e-2, "missing_eos_penalty": None,
        "checkpoint_every": 1000,
    }  # fmt: skip
    summary = train_ppo(
        [PROMPT], [[END]], str(start), reward, folder / "out", PPOConfig(**settings | changes),
        engine=engine(start, {END}), seed=0, progress=Silent(),
    )  # fmt: skip
    return summary, [json.loads(line) for line in (folder / "out" / "metrics.jsonl").read_text().splitlines()]


@torch.no_grad()
def best_objective(reference, beta):
    """beta log E_ref[exp(R / beta)]: what no policy can exceed."""
    total = 0.0
    for tokens in sequences():
        logprobs = reference(torch.tensor([[END, *tokens]])).logits[0, :-1].double().log_softmax(-1)
        logp = sum(logprobs[place, token].item() for place, token in enumerate(tokens))
        total += math.exp(logp + tokens.count(1) / beta)
    return beta * math.log(total)


@torch.no_grad()
def objective(policy, reference, beta):
    """E[R] - beta KL(policy, reference), exactly."""
    value = 0.0
    for tokens in sequences():
        ids = torch.tensor([[END, *tokens]])
        logs = [
            sum(
                model(ids).logits[0, :-1].double().log_softmax(-1)[place, token].item()
                for place, token in enumerate(tokens)
            )
            for model in (policy, reference)
        ]
        value += math.exp(logs[0]) * (tokens.count(1) - beta * (logs[0] - logs[1]))
    return value


@pytest.mark.parametrize("critic", ["shared", "lora"])
def test_adapters_reach_the_optimum_and_leave_the_reference_alone(tmp_path, critic):
    from transformers import AutoModelForCausalLM

    start = start_in(tmp_path)
    reference = AutoModelForCausalLM.from_pretrained(start)
    _, lines = learn(tmp_path, lora_rank=8, critic=critic, iterations=80, batch_size=128, epochs=4)
    policy = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert set(policy.state_dict()) == set(reference.state_dict())
    assert objective(policy, reference, 0.5) == pytest.approx(best_objective(reference, 0.5), abs=0.01)
    assert objective(reference, reference, 0.5) < best_objective(reference, 0.5) - 0.5
    # Before the first update the policy is the reference with its adapters off: no KL at all.
    assert lines[0]["kl"] == 0.0 and lines[0]["kl_k3"] == 0.0
    assert lines[-1]["kl"] > 0.5
    assert max(line["sync_gap"] for line in lines) < LOGPROB["abs"]


def test_engine_logprobs_learn_as_the_trainers_do(tmp_path):
    figures = {}
    for name, changes in {
        "trainer": {}, "engine": {"old_logprobs": "engine"}, "weighted": {"importance_cap": 2.0},
    }.items():  # fmt: skip
        folder = tmp_path / name
        folder.mkdir()
        _, lines = learn(folder, engine=WithLogprobs, **changes)
        figures[name] = [(line["reward"], line["kl"], line["policy_loss"]) for line in lines]
    # The same weights in the same precision: the three differ by rounding alone.
    for name in ("engine", "weighted"):
        for found, expected in zip(figures[name], figures["trainer"], strict=True):
            assert found == pytest.approx(expected, **FIGURE)


def test_an_engine_without_logprobs_is_refused(tmp_path):
    with pytest.raises(EngineError, match=r"0 log-probabilities .* set old_logprobs=trainer"):
        learn(tmp_path, old_logprobs="engine")


def test_several_rewards_add_up_and_a_weight_of_zero_only_watches(tmp_path):
    def zeros(prompts, completions):
        return [float(completion.token_ids.count(0)) for completion in completions]

    def length(prompts, completions):
        return [float(len(completion.token_ids)) for completion in completions]

    parts = [RewardPart("ones", ones, 2.0), RewardPart("zeros", zeros, -1.0), RewardPart("length", length, 0)]
    _, lines = learn(tmp_path, reward=parts)
    for line in lines:
        assert line["reward"] == pytest.approx(2 * line["reward/ones"] - line["reward/zeros"])
        assert line["reward/length"] == pytest.approx(line["length"])


def test_the_best_and_the_last_checkpoint_stay_and_load(tmp_path):
    from transformers import AutoModelForCausalLM

    summary, lines = learn(tmp_path, iterations=9, checkpoint_every=2, keep_policies=True)
    kept = sorted(path.name for path in (tmp_path / "out" / "checkpoints").iterdir())
    scores = {
        end: sum(line["reward"] - line["kl_coef"] * line["kl"] for line in lines[max(0, end - 2) : end])
        for end in (2, 4, 6, 8)
    } | {9: sum(line["reward"] - line["kl_coef"] * line["kl"] for line in lines[7:9])}
    best = max(scores, key=scores.get)
    assert kept == sorted({f"iteration-{best:06d}", "iteration-000009"})
    assert summary["best_policy"] == f"checkpoints/iteration-{best:06d}/policy"
    policies = sorted((tmp_path / "out" / "policies").iterdir())
    assert [path.name for path in policies] == [f"iteration-{n:06d}" for n in (2, 4, 6, 8, 9)]
    for folder in [*policies, tmp_path / "out" / summary["best_policy"]]:
        exact(AutoModelForCausalLM.from_pretrained(folder))
        assert "train.ppo" not in (card := (folder / "README.md").read_text()) and '"kind": "ppo"' in card
    last = AutoModelForCausalLM.from_pretrained(policies[-1]).state_dict()
    final = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    assert all(torch.equal(last[name], final[name]) for name in last)


def test_ptx_pulls_the_policy_to_the_conversations(tmp_path):
    template = (
        "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %} </s>{% endif %} {% endfor %}"
    )
    data = tmp_path / "sft.jsonl"
    data.write_text(json.dumps({"prompt": "1", "completion": "0 0"}) + "\n")
    found = {}
    for name, changes in {"with": {"ptx_coef": 1.0, "ptx_data": str(data)}, "without": {}}.items():
        folder = tmp_path / name
        folder.mkdir()
        start = start_in(folder)
        word_tokenizer(["0", "1", "</s>"], eos="</s>", pad="0", template=template).save_pretrained(start)
        learn(folder, iterations=10, **changes)
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(folder / "out")
        with torch.no_grad():
            logprobs = model(torch.tensor([[1, 0, 0, END]])).logits[0, :-1].log_softmax(-1)
        found[name] = sum(logprobs[place, token].item() for place, token in enumerate([0, 0, END]))
    assert found["with"] > found["without"] + 1.0


def test_a_real_engine_that_keeps_old_weights_stops_a_run_at_the_default_rate(
    transformers_engine, model_folder, tmp_path, monkeypatch
):
    def brevity(prompts, completions):
        return [-float(len(one.token_ids)) for one in completions]

    sets = [f"train.ppo.{one}" for one in ("iterations=2", "batch_size=16", "max_new_tokens=24")]
    config = load_config(None, sets, {"run": str(tmp_path)})
    prompts = [
        Prompt(id=f"p{number}", messages=(Message(role="user", content=f"What is {number}?"),))
        for number in range(16)
    ]
    monkeypatch.setattr(transformers_engine, "update_weights", lambda named, fingerprint=None: None)
    with pytest.raises(EngineError, match="kept old weights"):
        run_ppo(config, prompts, policy=str(model_folder), reward=brevity, engine=transformers_engine)
    assert (tmp_path / "ppo" / "metrics.jsonl").read_text() == ""
