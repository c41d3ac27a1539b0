"""A model without its weights: how many parameters it has, and what a pass over it keeps for the backward."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from constitute.engines.locate import reason_of, require
from constitute.errors import UsageError
from constitute.train.common import lora
from constitute.train.common.batching import TokenBatch, collate
from constitute.train.common.models import Actor, disable_dropout, hidden_states

_FLOAT = 4
# What `Actor` holds at once of the logits, times the tensors of that size in its forward and backward.
_LOGIT_BYTES, _LOGIT_COPIES = (1 << 26) * _FLOAT, 2


@dataclass(frozen=True)
class Pass:
    """A forward pass over `rows` sequences of `prompt` + `response` tokens with its graph.

    `half` is bf16 autocast; with `head` the log-probabilities of the response, else the trunk alone. Weights
    `held` in half the bytes (frozen under adapters of `rank`, or gathered so) spare the copies that autocast
    makes of others and keeps.
    """

    rows: int
    prompt: int
    response: int
    half: bool
    head: bool
    rank: int = 0
    held: bool = False


@dataclass(frozen=True)
class Passed:
    """Bytes of one pass: what its graph keeps, and what the output layer holds while it works."""

    kept: int
    logits: int


@dataclass
class Shape:
    """A causal language model on fake tensors; `trunk` counts the parameters without the output layer.

    `linear` is the sum of inputs and outputs of the linear layers that LoRA adapts: adapters of rank r have r
    times as many parameters.
    """

    name: str
    config: Any
    parameters: int
    trunk: int
    linear: int
    largest_layer: int
    embedding: int
    _mode: FakeTensorMode = field(repr=False)
    _models: dict[tuple[bool, int], Any] = field(repr=False)
    _known: dict[Pass, Passed] = field(default_factory=dict, repr=False)

    @property
    def layers(self) -> int:
        """Transformer layers."""
        return int(self.config.get_text_config().num_hidden_layers)

    @property
    def vocabulary(self) -> int:
        """Tokens that the output layer tells apart."""
        return int(self.config.get_text_config().vocab_size)

    def passed(self, asked: Pass, *, checkpointed: bool) -> Passed:
        """What a pass takes.

        With `checkpointed` each layer's input is kept, and one layer's inner tensors while it is run again.
        Raises `UsageError` for adapters on a model that cannot have them.
        """
        if asked not in self._known:
            self._known[asked] = self._run(asked)
        found = self._known[asked]
        if not checkpointed:
            return found
        width = int(self.config.get_text_config().hidden_size)
        each = asked.rows * (asked.prompt + asked.response) * width * (2 if asked.half else _FLOAT)
        return Passed(self.layers * each + found.kept // self.layers, found.logits)

    def _model(self, held: bool, rank: int) -> Any:
        """The model in bfloat16 where `held`, with adapters of `rank`."""
        if (held, rank) not in self._models:
            # PEFT converts what it makes, which fake tensors refuse and meta tensors do not.
            with torch.device("meta"):
                model = _built(self.config, torch.bfloat16 if held else torch.float32)
                if rank:
                    lora.add_adapter(model, lora.POLICY, rank)
            with self._mode:
                _on_the_cpu(model)
            self._models[held, rank] = model
        return self._models[held, rank]

    def _run(self, asked: Pass) -> Passed:
        kept: dict[int, int] = {}
        model = self._model(asked.held, asked.rank)
        with self._mode:
            batch = _batch(asked.rows, asked.prompt, asked.response)
            own = {weight.untyped_storage()._cdata for weight in model.parameters()}

            def note(tensor: torch.Tensor) -> torch.Tensor:
                storage = tensor.untyped_storage()
                if storage._cdata not in own:
                    kept[storage._cdata] = storage.nbytes()
                return tensor

            cast = torch.autocast("cpu", dtype=torch.bfloat16) if asked.half else nullcontext()
            with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), cast:
                if asked.head:
                    Actor(model)(batch, 1.0)
                else:
                    hidden_states(model.base_model, batch)
        logits = asked.rows * asked.response * self.vocabulary * _FLOAT if asked.head else 0
        return Passed(sum(kept.values()), min(logits, _LOGIT_BYTES) * _LOGIT_COPIES)


def open_shape(name: str) -> Shape:
    """The shape of a local folder or a Hub model, from its config alone.

    Raises `UsageError` where there is no such model, or where it cannot be built without weights.
    """
    from transformers import AutoConfig

    require(name)
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        mode = FakeTensorMode()
        with mode:
            model = _built(config, torch.float32)
            parameters = _count(model)
            output, embedding = model.get_output_embeddings(), model.get_input_embeddings()
            tied = output.weight is embedding.weight
            trunk = parameters - (0 if tied else output.weight.numel())
            largest = max(_count(layer) for layer in _layers_of(model))
            embedded = embedding.weight.numel()
            linear = [
                layer for layer in model.modules() if isinstance(layer, nn.Linear) and layer is not output
            ]
            adapted = sum(layer.in_features + layer.out_features for layer in linear)
    except (OSError, ValueError) as problem:
        raise UsageError(
            f"cannot plan for the model {name!r} ({reason_of(problem)}); give a local folder with "
            "config.json or a Hub name"
        ) from problem
    return Shape(name, config, parameters, trunk, adapted, largest, embedded, mode, {(False, 0): model})


def _built(config: Any, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(copy.deepcopy(config), dtype=dtype)
    disable_dropout(model)
    return model


def _on_the_cpu(model: Any) -> None:
    """Give a model on the meta device tensors on the CPU, which in a fake mode take no memory either."""
    known: dict[int, torch.Tensor] = {}
    for module in model.modules():
        for store in (module._parameters, module._buffers):
            for name, tensor in store.items():
                if tensor is None:
                    continue
                if id(tensor) not in known:
                    empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
                    learns = isinstance(tensor, nn.Parameter)
                    known[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if learns else empty
                store[name] = known[id(tensor)]


def _count(module: Any) -> int:
    return sum(weight.numel() for weight in module.parameters())


def _layers_of(model: Any) -> list[Any]:
    names = set(getattr(model, "_no_split_modules", None) or ())
    found = [module for module in model.modules() if type(module).__name__ in names]
    return found or [model]


def _batch(rows: int, prompt: int, response: int) -> TokenBatch:
    sequences = [[0] * (prompt + response)] * rows
    return collate(sequences, [prompt] * rows, 0, torch.device("cpu"))
