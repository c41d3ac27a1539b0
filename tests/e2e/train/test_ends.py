"""What a trained folder keeps of the model it came from: ends of a turn, template and special tokens.

The toy is as Phi-3 is: its tokenizer's end is `<|endoftext|>`, and turns end at `<|end|>`, which the
generation configuration alone names.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from train_models import CausalRollouts, tiny_causal
from unit.engines.test_render_training import TEMPLATES, trl_tokenizer

from constitute.config.ppo import PPOConfig
from constitute.config.train import DPOConfig, RewardConfig, SFTConfig
from constitute.engines.render import Renderer
from constitute.engines.tokenizer import load_tokenizer, turn_ends
from constitute.progress import Silent
from constitute.types import Message, Prompt

pytest.importorskip("trl")
ASKED = Message(role="user", content="Hi?")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phi")
    tokenizer = trl_tokenizer(TEMPLATES["phi3"])
    tokenizer.eos_token = "<|endoftext|>"
    model = tiny_causal(len(tokenizer), width=16, eos=tokenizer.eos_token_id, positions=256)
    ends = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|end|>"])
    model.generation_config.eos_token_id = ends
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        {"prompt": "Hi?", "chosen": f"Yes {n}.", "rejected": f"No {n}.", "chosen_prob": 0.9} for n in range(4)
    ]
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def length(prompts: Any, completions: Any) -> list[float]:
    return [float(len(one.token_ids)) for one in completions]


def train(kind: str, start: Path, data: Path, out: Path) -> None:
    model, common = str(start), {"seed": 0, "progress": Silent()}
    if kind == "sft":
        from constitute.train.sft import train_sft

        train_sft(data, model, out, SFTConfig(epochs=1, batch_size=4), **common)
    elif kind == "dpo":
        from constitute.train.dpo import train_dpo

        train_dpo(data, model, out, DPOConfig(epochs=1, batch_size=4, held_out=0.0), **common)
    elif kind == "reward":
        from constitute.train.reward.train import train_reward

        train_reward(data, model, out, RewardConfig(epochs=1, batch_size=4, held_out=0.0), **common)
    else:
        from constitute.train.ppo.run import train_ppo

        ids = Renderer(load_tokenizer(model), "phi").prompt_ids([ASKED])
        settings = PPOConfig(iterations=1, batch_size=4, max_new_tokens=4, missing_eos_penalty=None)
        ends = turn_ends(model, load_tokenizer(model))
        prompts = [Prompt(id="p", messages=(ASKED,))]
        engine = CausalRollouts(start, ends)
        train_ppo(prompts, [ids], model, length, out, settings, engine=engine, **common)


@pytest.mark.parametrize("kind", ["sft", "dpo", "reward", "ppo"])
def test_a_trained_folder_renders_and_ends_as_the_model_it_came_from(kind, start, data, tmp_path):
    train(kind, start, data, tmp_path / "out")
    renderers, tokenizers = [], []
    for folder in (start, tmp_path / "out"):
        tokenizer = load_tokenizer(str(folder))
        tokenizers.append((tokenizer.eos_token, tokenizer.bos_token, tokenizer.pad_token, len(tokenizer)))
        renderers.append(Renderer(tokenizer, "phi", turn_ends(str(folder), tokenizer)))
    before, after = renderers
    assert tokenizers[0] == tokenizers[1] == ("<|endoftext|>", "<bos>", "<pad>", len(tokenizer))
    assert (after.template_hash, after.tokenizer_hash) == (before.template_hash, before.tokenizer_hash)
    assert after.eos_ids == before.eos_ids and len(after.eos_ids) == 2
    assert after.answer_ids([ASKED], "Yes") == before.answer_ids([ASKED], "Yes")


@pytest.mark.parametrize("kind", ["sft", "dpo", "reward"])
def test_every_trainer_ends_an_answer_where_rollouts_end(kind, start, data, tmp_path, monkeypatch):
    """The token in whose place a reward is read is the one that PPO's responses end with."""
    from constitute.train import dpo, sft
    from constitute.train.reward import train as reward

    tokenizer = load_tokenizer(str(start))
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    seen: list[list[int]] = []

    class Seen(Exception):
        pass

    def rows(model, tokenizer, rows, config, job, *rest):
        seen.extend(list(ids) for ids, _ in rows.train)
        raise Seen

    def pairs(found, renderer, config, seed):
        split = split_pairs(found, renderer, config, seed)
        seen.extend(side for pair in split.train for side in (pair.chosen, pair.rejected))
        raise Seen

    split_pairs = reward.split_pairs
    monkeypatch.setattr(sft, "train_rows", rows)
    monkeypatch.setattr(dpo, "split_pairs", pairs)
    monkeypatch.setattr(reward, "split_pairs", pairs)
    with pytest.raises(Seen):
        train(kind, start, data, tmp_path / "out")
    assert len(seen) == (4 if kind == "sft" else 8)
    assert {ids[-1] for ids in seen} == {end} and tokenizer.eos_token_id not in {
        i for ids in seen for i in ids
    }
