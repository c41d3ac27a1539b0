"""Learn sequences of which some tokens bear loss, with the terms that conditioned methods add.

Shapes: B sequences of at most L tokens, N tokens that bear loss, V entries of the vocabulary, K conditions.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from constitute.config.imitation import ConditionedConfig
from constitute.engines.render import TokenRow
from constitute.train.common.batching import TokenBatch, collate
from constitute.train.common.fit import Job, fit
from constitute.train.common.models import Actor

_NO_LOSS = -100
# Logits of this many elements at once (256 MB in fp32).
_LOGIT_ELEMENTS = 1 << 26


@dataclass(frozen=True)
class Example:
    """A sequence to learn, and the same answer under the other conditions; prompt, for the split."""

    row: TokenRow
    others: tuple[TokenRow, ...] = ()

    @property
    def tokens(self) -> int:
        """Tokens that bear loss."""
        return sum(label != _NO_LOSS for label in self.row[1])


@dataclass(frozen=True)
class Terms:
    """What is added to the loss of imitation, by weight; 0 leaves a term out.

    `contrast` picks, with `smoothing`, the condition that an answer was learned under. `entropy` is
    subtracted. `kl` is the exact KL of each token from `reference`, which sees the first of an example's
    `others`, over the first `vocabulary` entries. `mask` hides that share of the tokens before.
    """

    contrast: float = 0.0
    smoothing: float = 0.0
    entropy: float = 0.0
    mask: float = 0.0
    kl: float = 0.0
    reference: Actor | None = None
    vocabulary: int | None = None


def learn(
    actor: Actor,
    examples: Sequence[Example],
    terms: Terms,
    config: ConditionedConfig,
    job: Job,
    *,
    pad_id: int,
) -> list[float]:
    """Train the actor's weights that need gradients; returns the loss of each step, a mean over tokens.

    Raises as `fit.fit` does.
    """
    passes = 1 + (len(examples[0].others) if terms.contrast or terms.kl else 0)
    return fit(
        actor,
        [len(example.row[0]) * passes for example in examples],
        loss_of(actor, examples, terms, pad_id, job.seed),
        config,
        job,
        weights=[float(example.tokens) for example in examples],
    )


def loss_of(
    actor: Actor, examples: Sequence[Example], terms: Terms, pad_id: int, seed: int
) -> Callable[[Sequence[int]], Tensor]:
    """The function from places of `examples` to their summed loss; an example counts by its tokens."""
    device = actor.model.device

    def loss_sum(places: Sequence[int]) -> Tensor:
        chosen = [examples[place] for place in places]
        hidden = [hidden_tokens(examples[place].row, terms.mask, f"{seed}:{place}") for place in places]
        batch = labelled([example.row for example in chosen], pad_id, device, hidden if terms.mask else None)
        logprobs_N, added_N = _terms_of(actor, batch, chosen, terms, pad_id)
        loss = (added_N - logprobs_N).sum()
        if not terms.contrast:
            return loss
        tokens_B = torch.tensor([example.tokens for example in chosen], dtype=torch.long, device=device)
        columns = [row_means(logprobs_N, tokens_B)]
        for other in range(len(examples[0].others)):
            rows = [example.others[other] for example in chosen]
            columns.append(row_means(actor(labelled(rows, pad_id, device), 1.0)[0], tokens_B))
        losses_B = contrast_loss(torch.stack(columns, dim=1), terms.smoothing)
        return loss + terms.contrast * (losses_B * tokens_B).sum()

    return loss_sum


def _terms_of(
    actor: Actor, batch: TokenBatch, chosen: Sequence[Example], terms: Terms, pad_id: int
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the labels, and what is added to each token's loss, both (N,)."""
    if not (terms.entropy or terms.kl):
        logprobs_N, _ = actor(batch, 1.0)
        return logprobs_N, torch.zeros_like(logprobs_N)
    states_ND = actor.trunk_states(batch)
    known_ND = states_ND.detach()
    if terms.kl and terms.reference is not None:
        rows = [example.others[0] for example in chosen]
        with torch.no_grad():
            known_ND = terms.reference.trunk_states(labelled(rows, pad_id, batch.target_N.device))
    piece = max(1, _LOGIT_ELEMENTS // actor.model.get_output_embeddings().weight.shape[0])
    parts = [
        checkpoint(_piece, actor, states, known, target, terms, use_reentrant=False)
        for states, known, target in zip(
            states_ND.split(piece), known_ND.split(piece), batch.target_N.split(piece), strict=True
        )
    ]
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def _piece(
    actor: Actor, states_ND: Tensor, known_ND: Tensor, target_N: Tensor, terms: Terms
) -> tuple[Tensor, Tensor]:
    logits_NV = logits_of(actor, states_ND)
    logprobs_NV = logits_NV.log_softmax(-1)
    added_N = torch.zeros_like(logprobs_NV[:, 0])
    if terms.entropy:
        added_N = added_N - terms.entropy * entropy_of(logprobs_NV)
    if terms.kl and terms.reference is not None:
        with torch.no_grad():
            known_NV = logits_of(terms.reference, known_ND)[:, : terms.vocabulary].log_softmax(-1)
        added_N = added_N + terms.kl * exact_kl(known_NV, logits_NV[:, : terms.vocabulary].log_softmax(-1))
    return logprobs_NV.gather(1, target_N[:, None]).squeeze(1), added_N


def logits_of(actor: Actor, states_ND: Tensor) -> Tensor:
    """The model's own logits (N, V) in float32, its scale and its cap included."""
    return actor._map(actor.model.get_output_embeddings()(states_ND)).float()


def exact_kl(reference_NV: Tensor, logprobs_NV: Tensor) -> Tensor:
    """KL(reference || policy) of each token (N,), in nats, summed over the vocabulary.

    arXiv 2205.13636; the authors' code takes the other direction.
    """
    return (reference_NV.exp() * (reference_NV - logprobs_NV)).sum(dim=-1)


def entropy_of(logprobs_NV: Tensor) -> Tensor:
    """Entropy of each token's distribution (N,), in nats, with its gradient."""
    return -(logprobs_NV.exp() * logprobs_NV).sum(dim=-1)


def contrast_loss(means_BK: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy (B,) of telling the condition of an answer by its probability under each.

    Column 0 is the condition that the answer was learned under; `means_BK` are log-probabilities per token
    (arXiv 2302.05206, in the per-token form of the authors' code). `smoothing` is shared by the
    others.
    """
    choice_BK = means_BK.log_softmax(dim=1)
    others = choice_BK[:, 1:].mean(dim=1)
    return -(1.0 - smoothing) * choice_BK[:, 0] - smoothing * others


def row_means(values_N: Tensor, tokens_B: Tensor) -> Tensor:
    """The mean over each row's tokens (B,); tokens stand row after row."""
    row_N = torch.repeat_interleave(torch.arange(len(tokens_B), device=values_N.device), tokens_B)
    sums_B = torch.zeros(len(tokens_B), dtype=values_N.dtype, device=values_N.device)
    return sums_B.index_add(0, row_N, values_N) / tokens_B


def hidden_tokens(row: TokenRow, share: float, key: str) -> list[int]:
    """Places whose tokens no later token attends to, drawn once from `key`; never the first token."""
    count = len(row[0]) - 1
    return sorted(random.Random(key).sample(range(1, count + 1), round(share * count)))


def labelled(
    rows: Sequence[TokenRow], pad_id: int, device: torch.device, hidden: Sequence[Sequence[int]] | None = None
) -> TokenBatch:
    """Pad rows on the right; what is predicted is each token whose label bears loss.

    With `hidden`, attention leaves these places of each row out. No rows give `collate`'s batch of none.
    """
    if not rows:
        return collate([], [], pad_id, device)
    width = max(len(ids) for ids, _ in rows)
    padded = [[*ids, *([pad_id] * (width - len(ids)))] for ids, _ in rows]
    places = [
        (row * width + place - 1, label)
        for row, (_, labels) in enumerate(rows)
        for place, label in enumerate(labels)
        if label != _NO_LOSS
    ]
    attention: Any = None
    if hidden is not None:
        attention = torch.ones((len(rows), width), dtype=torch.long)
        for row, out in enumerate(hidden):
            attention[row, list(out)] = 0
        attention = attention.to(device)
    return TokenBatch(
        torch.tensor(padded, device=device),
        torch.arange(width, device=device).expand(len(rows), width),
        torch.tensor([place for place, _ in places], dtype=torch.long, device=device),
        torch.tensor([label for _, label in places], dtype=torch.long, device=device),
        torch.tensor([row * width + len(ids) - 1 for row, (ids, _) in enumerate(rows)], device=device),
        attention_BL=attention,
    )
