"""What weights are held and saved in, and how adapters are merged into them."""

import pytest
import torch
from tiny_models import random_experts
from train_models import tiny_causal
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from constitute.errors import UsageError
from constitute.train.common import lora, precision
from constitute.train.common.models import Actor
from constitute.train.common.precision import held_dtype, saved_dtype
from constitute.train.common.sharding import whole_model
from constitute.train.ppo.probe import Probe, measure

HALF = torch.bfloat16


def adapted(dtype, name=lora.POLICY):
    """A model in `dtype` with an adapter that changes each weight by about 1e-3 of it."""
    model = tiny_causal(64).to(dtype)
    lora.add_adapter(model, name, 2)
    torch.manual_seed(1)
    for weight in lora.parameters(model, name):
        torch.nn.init.normal_(weight, std=3e-3)
    return model


def test_what_learns_is_float32_and_the_rest_is_as_passes_use_it(monkeypatch):
    assert (held_dtype(trained=True), held_dtype(trained=False)) == (torch.float32, torch.float32)
    monkeypatch.setattr(precision, "half", lambda: True)
    assert (held_dtype(trained=True), held_dtype(trained=False)) == (torch.float32, HALF)


@pytest.mark.parametrize("came", [torch.float32, HALF, torch.float16])
def test_a_model_is_saved_in_the_type_it_came_in(tmp_path, came):
    tiny_causal(64).to(came).save_pretrained(tmp_path)
    assert saved_dtype("auto", str(tmp_path)) == came
    assert saved_dtype("bfloat16", "nowhere") == HALF
    with pytest.raises(UsageError, match="nowhere"):
        saved_dtype("auto", str(tmp_path / "nowhere"))


def test_adapters_are_float32_and_the_base_is_as_it_is_held():
    model = adapted(HALF)
    assert {weight.dtype for weight in lora.parameters(model, lora.POLICY)} == {torch.float32}
    learns = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert learns == {name for name, _ in model.named_parameters() if ".lora_" in name}
    assert {weight.dtype for weight in model.parameters() if not weight.requires_grad} == {HALF}


def test_adapters_are_merged_in_float32_and_rounded_last():
    model = adapted(HALF)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    layer = model.model.layers[0].mlp.up_proj
    exact = layer.base_layer.weight.float() + layer.get_delta_weight(lora.POLICY)
    name = "model.layers.0.mlp.up_proj.weight"
    merged = whole_model(model, torch.float32).state_dict()[name]
    assert torch.equal(merged, exact)
    rounded = whole_model(model, HALF).state_dict()[name]
    assert torch.equal(rounded, exact.to(HALF))
    # Adding in bfloat16 would round twice, and elsewhere.
    twice = layer.base_layer.weight + layer.get_delta_weight(lora.POLICY).to(HALF)
    assert not torch.equal(rounded, twice)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_model_in_the_wanted_type_is_not_copied():
    model = tiny_causal(64)
    assert whole_model(model, torch.float32) is model and whole_model(model) is model
    copy = whole_model(model, HALF)
    assert copy is not model and {weight.dtype for weight in copy.parameters()} == {HALF}
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_half_the_bytes_load_again_within_rounding(tmp_path):
    model = tiny_causal(64)
    sizes = {}
    for dtype in (torch.float32, HALF):
        folder = tmp_path / str(dtype)
        whole_model(model, dtype).save_pretrained(folder)
        sizes[dtype] = (folder / "model.safetensors").stat().st_size
    assert sizes[HALF] == pytest.approx(sizes[torch.float32] / 2, rel=0.05)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / str(HALF))
    assert {weight.dtype for weight in loaded.parameters()} == {HALF}
    for ours, theirs in zip(model.parameters(), loaded.parameters(), strict=True):
        # Half a unit of the last of 8 bits.
        assert torch.allclose(ours, theirs.float(), rtol=2**-8, atol=0)


def test_experts_are_saved_by_the_names_of_their_checkpoint(tmp_path):
    folder = random_experts(tmp_path / "experts")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    whole_model(model, HALF).save_pretrained(tmp_path / "half")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "half", dtype=torch.float32)
    for ours, theirs in zip(model.parameters(), loaded.parameters(), strict=True):
        assert torch.allclose(ours, theirs, rtol=2**-8, atol=0)
    from safetensors import safe_open

    with (
        safe_open(folder / "model.safetensors", "pt") as file,
        safe_open(tmp_path / "half" / "model.safetensors", "pt") as other,
    ):
        assert set(file.keys()) == set(other.keys())


@pytest.mark.parametrize("kind", [AutoModelForCausalLM, AutoModelForSequenceClassification])
def test_adapters_on_experts_are_refused_for_policy_and_reward_model(tmp_path, kind):
    model = kind.from_pretrained(random_experts(tmp_path / "experts"), dtype=torch.float32)
    trunk = model if kind is AutoModelForCausalLM else model.base_model
    with pytest.raises(UsageError, match=r"mixture of experts.*set lora_rank=0"):
        lora.add_adapter(trunk, lora.POLICY, 4)


class Holds:
    """An engine in `dtype` that holds a model's weights, merged."""

    def __init__(self, model, dtype):
        self.dtype = str(dtype).removeprefix("torch.")
        self.model = tiny_causal(64)
        self.model.load_state_dict(whole_model(model, dtype).state_dict())

    @torch.no_grad()
    def score_ids(self, prompts, completions):
        ids = torch.tensor([[*prompt, *answer] for prompt, answer in zip(prompts, completions, strict=True)])
        logprobs = self.model(ids).logits.log_softmax(-1)
        start = len(prompts[0])
        found = logprobs[:, start - 1 : -1].gather(2, ids[:, start:, None]).squeeze(2)
        return found.tolist()


@pytest.mark.parametrize("held", [torch.float32, HALF])
@pytest.mark.parametrize("engine", [torch.float32, HALF])
def test_a_push_is_measured_in_float32_whatever_the_base_is_held_in(held, engine):
    """The gap of a faithful engine is that of float32, where passes in bfloat16 would give 100 times more."""
    model = adapted(held)
    probe = Probe([[5, 6, 7], [9, 10, 11]], [[12, 13, 14, 15], [16, 17, 18, 19]], 0, 4096)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    scores = measure(Holds(model, engine), Actor(model), probe)
    assert scores.gap.max < 2e-6
    assert {weight.dtype for weight in lora.parameters(model, lora.POLICY)} == {torch.float32}
    after = model.state_dict()
    assert all(after[name].dtype == t.dtype and torch.equal(after[name], t) for name, t in before.items())
    assert not any(layer._disable_adapters for layer in lora.layers(model).values())
