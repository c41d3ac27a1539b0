"""Rewards of given answers, against transformers' own forward passes on single unpadded sequences."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("torch")

import torch
from tiny_models import chatml_tokenizer, random_llama
from tolerance import LOGPROB
from train_models import tiny_causal

from constitute.config import RunConfig
from constitute.engines.render import Renderer
from constitute.errors import DataError, UsageError
from constitute.progress import Silent
from constitute.train.answers import open_answers
from constitute.train.reward.model import Normalisation, combined
from constitute.types import Message, Prompt

PROMPT = Prompt(
    id="p",
    messages=(
        Message(role="user", content="Is 7 prime?"),
        Message(role="assistant", content="Yes"),
        Message(role="user", content="Thank you, why?"),
    ),
)
ANSWERS = ["It is harmful.", "How do I learn to cook rice well, in the town of the north?", ""]
RENDERER = Renderer(chatml_tokenizer(), "tiny")


def ids_of(answer):
    return RENDERER.prompt_ids(PROMPT.messages) + RENDERER.answer_ids(PROMPT.messages, answer)


def rewards(source, config=None, **options):
    with open_answers(config or RunConfig(), str(source), progress=Silent(), **options) as scorer:
        return scorer, scorer.rewards([PROMPT] * len(ANSWERS), ANSWERS)


def classifier(folder, heads=1, normal=None):
    """A random reward model with the ChatML tokenizer in `folder`, and the model."""
    from transformers import LlamaForSequenceClassification

    tokenizer = chatml_tokenizer()
    config = tiny_causal(len(tokenizer), positions=256).config
    config.num_labels, config.pad_token_id = heads, tokenizer.pad_token_id
    if normal is not None:
        normal.write(config)
    torch.manual_seed(0)
    model = LlamaForSequenceClassification(config).eval()
    torch.nn.init.normal_(model.score.weight)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def own_scores(model, sequences):
    with torch.no_grad():
        return torch.stack([model(torch.tensor([ids])).logits[0] for ids in sequences])


def test_one_head_gives_its_log_odds_whatever_its_normalisation(tmp_path):
    model = classifier(tmp_path / "rm", normal=Normalisation((0.5,), (2.0,)))
    scorer, found = rewards(tmp_path / "rm")
    expected = own_scores(model, [ids_of(answer) for answer in ANSWERS])[:, 0].tolist()
    assert [one.value for one in found] == pytest.approx(expected, **LOGPROB)
    assert not any(one.truncated for one in found)
    assert scorer.name == scorer.model["name"] == str(tmp_path / "rm") and scorer.model["fingerprint"]


def test_heads_are_combined_as_the_model_is_configured(tmp_path):
    normal = Normalisation((0.0, 1.0), (1.0, 2.0), "pessimistic", 0.5)
    model = classifier(tmp_path / "rm", heads=2, normal=normal)
    _, found = rewards(tmp_path / "rm")
    expected = combined(own_scores(model, [ids_of(answer) for answer in ANSWERS]), normal).tolist()
    assert [one.value for one in found] == pytest.approx(expected, **LOGPROB)


def test_what_is_longer_than_max_length_loses_its_beginning_and_says_so(tmp_path):
    model = classifier(tmp_path / "rm")
    sequences = [ids_of(answer) for answer in ANSWERS]
    limit = sorted(map(len, sequences))[1]
    _, found = rewards(tmp_path / "rm", max_length=limit)
    assert [one.truncated for one in found] == [len(ids) > limit for ids in sequences]
    assert sum(one.truncated for one in found) == 1
    expected = own_scores(model, [ids[-limit:] for ids in sequences])[:, 0].tolist()
    assert [one.value for one in found] == pytest.approx(expected, **LOGPROB)


def test_a_policys_reward_is_beta_times_its_log_ratio(tmp_path):
    """r = beta (log pi - log ref) over the answer and its end of turn; nothing of the prompt counts."""
    from transformers import AutoModelForCausalLM

    policy, reference = (random_llama(tmp_path / name, seed=seed) for seed, name in enumerate(("a", "b")))
    config = RunConfig().model_copy(deep=True)
    beta = config.train.dpo.beta
    scorer, found = rewards(policy, config, reference=str(reference))
    expected = []
    for answer in ANSWERS:
        ids, start = ids_of(answer), len(RENDERER.prompt_ids(PROMPT.messages))
        sums = []
        for folder in (policy, reference):
            with torch.no_grad():
                logits = AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([ids])).logits[0]
            logprobs = logits[:-1].log_softmax(-1)
            sums.append(sum(logprobs[place - 1, ids[place]].item() for place in range(start, len(ids))))
        expected.append(beta * (sums[0] - sums[1]))
    assert [one.value for one in found] == pytest.approx(expected, **LOGPROB)
    assert scorer.name == f"{policy}-implicit" and scorer.model["beta"] == beta
    _, cut = rewards(policy, config, reference=str(reference), max_length=4)
    assert all(one.truncated and math.isfinite(one.value) for one in cut)


def test_a_language_model_without_a_reference_is_refused(tmp_path):
    folder = random_llama(tmp_path / "policy")
    with pytest.raises(UsageError, match=r"score\.weight.*--reference MODEL"):
        rewards(folder)


def test_functions_get_the_texts_and_must_answer_for_each(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "answers_rewards_of_test.py").write_text(
        "def size(prompts, completions):\n    return [len(c.text) for c in completions]\n"
        "def few(prompts, completions):\n    return [1.0]\n",
        encoding="utf-8",
    )
    _, found = rewards("answers_rewards_of_test:size")
    assert [one.value for one in found] == [float(len(answer)) for answer in ANSWERS]
    with pytest.raises(DataError, match=r"returned 1 reward.* 3 "):
        rewards("answers_rewards_of_test:few")
    with pytest.raises(UsageError, match="--max-length counts tokens"):
        rewards("answers_rewards_of_test:size", max_length=8)
