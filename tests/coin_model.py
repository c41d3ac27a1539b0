"""A tiny model that answers A or B, each half the time, so that what a method makes of it is known."""

import json

from tiny_models import chatml_tokenizer
from train_models import tiny_causal

from constitute.config.train import SFTConfig
from constitute.progress import Silent
from constitute.train.sft import train_sft

ENGINE = ["--set", "engine.kind=transformers", "--set", "engine.context_length=64"]


def questions(n):
    """n prompts that differ."""
    return [f"case {at}" for at in range(n)]


def prompts_file(path, n):
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in questions(n)))
    return path


_MADE = []


def coin(tmp_path_factory):
    """The folder of the model, trained once in a session."""
    if not _MADE:
        _MADE.append(_trained(tmp_path_factory.mktemp("coin")))
    return _MADE[0]


def _trained(folder):
    tokenizer = chatml_tokenizer()
    start = folder / "start"
    tiny_causal(len(tokenizer), width=32, eos=tokenizer.eos_token_id, positions=128).save_pretrained(start)
    tokenizer.save_pretrained(start)
    rows = [{"prompt": text, "completion": answer} for text in questions(64) for answer in "AB"]
    data = folder / "coin.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = SFTConfig(epochs=12, learning_rate=1e-2, batch_size=32, device_batch_size=32)
    train_sft(data, str(start), folder / "coin", config, seed=0, progress=Silent())
    return folder / "coin"
