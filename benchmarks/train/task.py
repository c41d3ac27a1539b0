"""The task both trainers are given: a small Llama, prompts, a reward model. Needs torch and transformers.

`python task.py FOLDER` makes it. Two policies: `fixed` says random tokens and never ends by itself;
`varied` counts down from the number its prompt names and then ends, so that both sides sample the same
law of lengths, spread evenly over 16 to 256.
"""

from __future__ import annotations

import json
import math
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

VOCAB, EOS, PAD = 1024, 1022, 1023
PROMPT = 32
SHORTEST, LONGEST = 16, 256
SHORT_STEPS, LONG_STEPS = 200, 60
# Greater logits, so that sampling seldom leaves the countdown.
SHARPER = 2.0
SIZE = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 5, "num_attention_heads": 4}


def model_config() -> Any:
    """A Llama of 4.5 M parameters."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=VOCAB, num_key_value_heads=4, max_position_embeddings=512, tie_word_embeddings=False,
        bos_token_id=None, eos_token_id=EOS, pad_token_id=PAD, **SIZE,
    )  # fmt: skip


def tokenizer() -> Any:
    """One word a token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {f"w{index}": index for index in range(VOCAB - 2)} | {"</s>": EOS, "<pad>": PAD}
    backend = Tokenizer(models.WordLevel(words, unk_token="w0"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="</s>", pad_token="<pad>", unk_token="w0",
        chat_template="{% for message in messages %}{{ message['content'] }}{% endfor %}",
    )  # fmt: skip


def prompt(rng: random.Random, length: int | None = None) -> list[int]:
    """32 random tokens; the last names the length wanted."""
    ids = [rng.randrange(VOCAB - 2) for _ in range(PROMPT)]
    return ids if length is None else [*ids[:-1], length]


def fit(model: Any, batches: Any, rate: float) -> None:
    """Next-token training on (ids, labels) batches."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    for ids, labels in batches:
        model(input_ids=ids, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def endless(rng: random.Random) -> Iterator[tuple[Any, Any]]:
    """Random tokens without an end."""
    for _ in range(60):
        ids = torch.tensor([[rng.randrange(VOCAB - 2) for _ in range(96)] for _ in range(16)])
        yield ids, ids


def countdown(rng: random.Random) -> Iterator[tuple[Any, Any]]:
    """Prompt naming n, then n-1, n-2, ... 0 and the end: n+1 tokens.

    The next number depends on the last alone, so short pieces teach it; the last batches are whole.
    """
    for step in range(SHORT_STEPS + LONG_STEPS):
        longest = 32 if step < SHORT_STEPS else LONGEST
        rows = []
        for _ in range(16 if step < SHORT_STEPS else 4):
            n = rng.randrange(LONGEST)
            rows.append((prompt(rng, n), [*range(n - 1, -1, -1), EOS][:longest]))
        width = max(len(a) + len(b) for a, b in rows)
        ids = torch.tensor([[*a, *b, *([PAD] * (width - len(a) - len(b)))] for a, b in rows])
        labels = ids.clone()
        for row, (a, b) in enumerate(rows):
            labels[row, : len(a)] = -100
            labels[row, len(a) + len(b) :] = -100
        yield ids, labels


@torch.no_grad()
def silence(model: Any, rng: random.Random) -> float:
    """Make the end and the padding impossible to sample; returns the largest probability left to either.

    Their rows of the output layer point against every hidden state: the least-squares solution of -40.
    """
    ids = torch.tensor([prompt(rng) * 3 for _ in range(64)])
    states = model.model(input_ids=ids).last_hidden_state.flatten(0, 1)
    row = torch.linalg.lstsq(states, torch.full((len(states), 1), -40.0)).solution.squeeze(1)
    model.lm_head.weight[[EOS, PAD]] = row
    again = torch.tensor([prompt(rng) * 3 for _ in range(16)])
    return float(model(input_ids=again).logits.softmax(-1)[..., [EOS, PAD]].max())


def fit_reward(model: Any, rng: random.Random, steps: int = 150) -> float:
    """Teach a classifier 10 x (share of even tokens after the prompt - 0.5); returns the last error."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    error = math.nan
    for _ in range(steps):
        length = rng.choice((16, 24, 32, 64))
        shares = [rng.random() for _ in range(16)]
        answers = [
            [2 * rng.randrange(510) + (rng.random() > share) for _ in range(length)] for share in shares
        ]
        ids = torch.tensor([[*prompt(rng), *answer] for answer in answers])
        even = torch.tensor([sum(token % 2 == 0 for token in answer) / length for answer in answers])
        loss = ((model(input_ids=ids).logits.squeeze(-1) - 10 * (even - 0.5)) ** 2).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        error = loss.item()
    return error


def make(folder: Path) -> None:
    """Write policies, reward model and prompts into `folder`."""
    from transformers import LlamaForCausalLM, LlamaForSequenceClassification

    rng = random.Random(0)
    for name, batches, rate in (("fixed", endless(rng), 1e-3), ("varied", countdown(rng), 2e-3)):
        torch.manual_seed(0)
        model = LlamaForCausalLM(model_config())
        fit(model, batches, rate)
        if name == "fixed":
            print("largest probability of an end:", silence(model, rng))
        else:
            model.lm_head.weight.data *= SHARPER
        model.save_pretrained(folder / name)
        tokenizer().save_pretrained(folder / name)
    torch.manual_seed(1)
    config = model_config()
    config.num_labels = 1
    judge = LlamaForSequenceClassification(config)
    print("reward model, mean squared error:", round(fit_reward(judge, rng), 3))
    judge.save_pretrained(folder / "reward")
    tokenizer().save_pretrained(folder / "reward")
    lengths = [SHORTEST - 1 + (LONGEST - SHORTEST) * place // 511 for place in range(512)]
    rng.shuffle(lengths)
    rows = {"fixed": [prompt(rng) for _ in lengths], "varied": [prompt(rng, n) for n in lengths]}
    (folder / "prompts.json").write_text(json.dumps(rows))
    print("parameters:", sum(p.numel() for p in model.parameters()))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
