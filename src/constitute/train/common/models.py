"""The models of PPO: actor, critic and frozen reference, as one forward pass needs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from constitute.engines.locate import reason_of, require
from constitute.errors import UsageError
from constitute.train.common import lora
from constitute.train.common.batching import TokenBatch, collate
from constitute.train.common.rounding import exact
from constitute.train.common.shared import shared_states

# Logits of this many elements at once (256 MB in fp32); a longer list of tokens is cut into pieces.
_LOGIT_ELEMENTS = 1 << 26


def load_model(auto: Any, name: str, *, new: Sequence[str] = (), **options: Any) -> Any:
    """Load `name` with a transformers Auto class: safetensors, no remote code, dropout off.

    `new` names the weights that may be absent and start at random. Raises `UsageError` where there is no
    such model or where it lacks others.
    """
    require(name)
    try:
        model, loading = auto.from_pretrained(
            name, trust_remote_code=False, use_safetensors=True, output_loading_info=True, **options
        )
    except (OSError, ValueError) as problem:
        raise UsageError(
            f"cannot load the model {name!r} ({reason_of(problem)}); give a local folder with safetensors "
            "or a Hub name"
        ) from problem
    lacking = sorted(set(loading["missing_keys"]) - set(new))
    if lacking:
        raise UsageError(
            f"the model {name!r} lacks weights that a {type(model).__name__} needs ({lacking[0]}, "
            f"{len(lacking)} in all); give a model of the right kind"
        )
    disable_dropout(model)
    return model.eval()


def disable_dropout(model: nn.Module) -> None:
    """Set every dropout to zero, those that attention takes as a number included."""
    module: Any
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0


def hidden_states(trunk: nn.Module, batch: TokenBatch) -> Tensor:
    """Last hidden states, flattened to (B*L, D). Positions are explicit; causality hides the padding."""
    if batch.shared is not None:
        return shared_states(trunk, batch)
    hidden = {} if batch.attention_BL is None else {"attention_mask": batch.attention_BL}
    output = trunk(
        input_ids=batch.input_ids_BL, position_ids=batch.position_ids_BL, use_cache=False, **hidden
    )
    hidden_BLD: Tensor = output.last_hidden_state
    return hidden_BLD.flatten(0, 1)


def logit_map(config: Any) -> Callable[[Tensor], Tensor]:
    """What a model does to its logits after the output layer: a scale (Granite, Cohere), a cap (Gemma 2)."""
    scale = float(getattr(config, "logit_scale", None) or 1.0)
    scale /= float(getattr(config, "logits_scaling", None) or 1.0)
    cap = getattr(config, "final_logit_softcapping", None)

    def apply(logits: Tensor) -> Tensor:
        logits = logits if scale == 1.0 else logits * scale
        return logits if cap is None else torch.tanh(logits / cap) * cap

    return apply


class Actor(nn.Module):
    """A causal language model, asked only for the log-probabilities of response tokens."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self._map = logit_map(model.config.get_text_config())

    def trunk_states(self, batch: TokenBatch) -> Tensor:
        """Hidden states (N, D) at the positions that predict a response token."""
        return hidden_states(self.model.base_model, batch)[batch.predict_N]

    def logprobs(
        self, hidden_ND: Tensor, target_N: Tensor, temperature: float, *, entropy: bool
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the targets and entropies of their distributions, both (N,), in nats.

        The entropy carries no gradient and is 0 unless asked for. Large vocabularies go piece by piece,
        recomputed in the backward.
        """
        head = self.model.get_output_embeddings()
        piece = max(1, _LOGIT_ELEMENTS // head.out_features)
        if len(target_N) <= piece:
            return self._piece(hidden_ND, target_N, temperature, entropy)
        parts = [
            checkpoint(self._piece, hidden, target, temperature, entropy, use_reentrant=False)
            for hidden, target in zip(hidden_ND.split(piece), target_N.split(piece), strict=True)
        ]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])

    def _piece(
        self, hidden_ND: Tensor, target_N: Tensor, temperature: float, entropy: bool
    ) -> tuple[Tensor, Tensor]:
        logits_NV = self._map(self.model.get_output_embeddings()(hidden_ND)).float() / temperature
        norm_N = logits_NV.logsumexp(dim=-1)
        logprobs_N = logits_NV.gather(1, target_N[:, None]).squeeze(1) - norm_N
        if not entropy:
            return logprobs_N, torch.zeros_like(norm_N, requires_grad=False)
        with torch.no_grad():
            entropy_N = norm_N - ((logits_NV - norm_N[:, None]).exp() * logits_NV).sum(dim=-1)
        return logprobs_N, entropy_N

    def forward(
        self, batch: TokenBatch, temperature: float, *, entropy: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropies of the response tokens, (N,) each."""
        return self.logprobs(self.trunk_states(batch), batch.target_N, temperature, entropy=entropy)


class ActorCritic(nn.Module):
    """Policy and value function in one module, so that one checkpoint holds both.

    `critic` is a trunk of its own; where None, the value head reads the actor's trunk, through the
    adapter `critic_adapter` if there is one. Without a `value_head` there are no values.
    """

    def __init__(
        self,
        actor: Actor,
        critic: nn.Module | None,
        value_head: nn.Linear | None,
        critic_adapter: str | None = None,
    ) -> None:
        super().__init__()
        self.actor = actor
        self.critic = critic
        self.value_head = value_head
        self.critic_adapter = critic_adapter

    def forward(
        self, batch: TokenBatch, temperature: float, *, entropy: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities, entropies and values of the response tokens, (N,) each.

        The value of a token is read where it is predicted: V(s_t) before action t.
        """
        states_ND = self.actor.trunk_states(batch)
        logprobs_N, entropy_N = self.actor.logprobs(states_ND, batch.target_N, temperature, entropy=entropy)
        return logprobs_N, entropy_N, self.values(batch, states_ND)

    def values(self, batch: TokenBatch, actor_states_ND: Tensor | None = None) -> Tensor:
        """Values of the response tokens (N,); `actor_states_ND` spares a shared trunk a second pass."""
        if self.value_head is None:
            return torch.zeros(len(batch.target_N), device=batch.target_N.device)
        if self.critic is not None:
            states_ND = hidden_states(self.critic, batch)[batch.predict_N]
        elif self.critic_adapter is not None:
            with lora.active(self.actor.model, self.critic_adapter):
                states_ND = self.actor.trunk_states(batch)
        else:
            states_ND = self.actor.trunk_states(batch) if actor_states_ND is None else actor_states_ND
        return self.value_head(states_ND).squeeze(-1).float()


def zero_value_head(width: int) -> nn.Linear:
    """A value head that starts at zero (arXiv 1909.08593's code)."""
    value = nn.Linear(width, 1)
    nn.init.zeros_(value.weight)
    nn.init.zeros_(value.bias)
    return value


@torch.no_grad()
def check_actor(actor: Actor, name: str) -> None:
    """Raise `UsageError` unless our path to the log-probabilities equals the model's own logits."""
    device = actor.model.device
    tokens = [[place % actor.model.config.get_text_config().vocab_size for place in range(6)]]
    batch = collate(tokens, [1], 0, device)
    # In bfloat16 the two would differ by the order of their sums.
    with exact(actor.model):
        ours, _ = actor(batch, 1.0)
        own = actor.model(batch.input_ids_BL).logits[0, :-1].float().log_softmax(-1)
    theirs = own.gather(1, batch.target_N[:, None]).squeeze(1)
    gap = (ours - theirs).abs().max().item()
    if gap > 1e-2:
        raise UsageError(
            f"the architecture of {name} ({type(actor.model).__name__}) does something to its logits that "
            f"is not known here (log-probabilities differ by {gap:.3g}); use a Llama, Qwen, Gemma or "
            "GPT-2 model"
        )
