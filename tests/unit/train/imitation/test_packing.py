"""Packed conversations are blind to one another, and the loss is the same token mean as without packing."""

import json

import pytest
import torch
from tiny_models import chatml_tokenizer
from train_models import tiny_causal

from constitute.config.train import SFTConfig
from constitute.errors import UsageError
from constitute.progress import Silent
from constitute.train.imitation.packing import check_packs, packing_arguments
from constitute.train.sft import train_sft


@pytest.fixture
def model(tmp_path):
    tokenizer = chatml_tokenizer()
    folder = tmp_path / "model"
    tiny_causal(len(tokenizer), width=32, eos=tokenizer.eos_token_id, positions=256).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write(path, n):
    rows = [{"prompt": f"case {i} " * (1 + i % 4), "completion": f"Yes {i} " * (1 + i % 3)} for i in range(n)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def losses_of(folder):
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_packed_sequence_has_the_logits_it_has_alone(attention):
    network = tiny_causal(64, layers=2)
    network.set_attn_implementation(attention)
    check_packs(network, "tiny")
    first, second = torch.tensor([[5, 6, 7]]), torch.tensor([[9, 8, 7, 6]])
    alone = network(second).logits[0]
    both = torch.cat([first, second], dim=1)
    places = torch.tensor([[0, 1, 2, 0, 1, 2, 3]])
    packed = network(both, position_ids=places, use_cache=False).logits[0, 3:]
    assert torch.allclose(packed, alone, atol=1e-5)
    # Without positions that start again, the second sees the first.
    assert not torch.allclose(network(both, use_cache=False).logits[0, 3:], alone, atol=1e-3)


def test_a_model_that_ignores_boundaries_is_refused():
    network = tiny_causal(64)
    leaking = network.forward
    network.forward = lambda input_ids, position_ids=None, **rest: leaking(input_ids, **rest)
    with pytest.raises(UsageError, match=r"see each other .* set train\.sft\.packing=none"):
        check_packs(network, "leaky")


def test_arguments():
    assert packing_arguments(SFTConfig()) == {"max_length": None}
    assert packing_arguments(SFTConfig(packing="flat")) == {"padding_free": True, "max_length": None}
    full = packing_arguments(SFTConfig(packing="full", max_length=99))
    assert full == {"packing": True, "packing_strategy": "bfd", "max_length": 99}


def test_flat_packing_takes_the_same_updates(tmp_path, model):
    data = write(tmp_path / "sft.jsonl", 24)
    common = {"epochs": 2, "batch_size": 8, "device_batch_size": 4, "learning_rate": 1e-2}
    for name in ("none", "flat"):
        config = SFTConfig(packing=name, **common)
        train_sft(data, str(model), tmp_path / name, config, seed=0, progress=Silent())
    plain, flat = losses_of(tmp_path / "none"), losses_of(tmp_path / "flat")
    assert len(plain) == 6 and plain[-1] < plain[0] - 0.3
    assert flat == pytest.approx(plain, rel=2e-4)


def test_full_packing_has_the_same_token_mean(tmp_path, model):
    # All conversations in one update, either way: the token mean before it is the same number.
    data = write(tmp_path / "sft.jsonl", 24)
    plain = SFTConfig(epochs=1, batch_size=24, device_batch_size=8, learning_rate=1e-12)
    first = train_sft(data, str(model), tmp_path / "none", plain, seed=0, progress=Silent())
    packed = plain.model_copy(update={"packing": "full", "max_length": 128, "batch_size": 24})
    second = train_sft(data, str(model), tmp_path / "full", packed, seed=0, progress=Silent())
    assert second["steps"] == 1 and first["rows"] == second["rows"] == 24
    assert second["loss_first"] == pytest.approx(first["loss_first"], rel=1e-4)
    # So many sequences of 128 tokens are needed at least, and best fit wastes little.
    assert first["tokens"] == second["tokens"] > 128
