"""Pack trees of conversations into rows, and train a Llama model on them."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from tools.pocket.corpus import Dialogue, Kind, Tree
from tools.pocket.tokenizer import CONTEXT_LENGTH, END, PAD, ROLES, token_id

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM

Log = Callable[[str], None]


@dataclass(frozen=True)
class Recipe:
    """Every number of the training run. `tokens` counts packed positions."""

    tokens: int = 5_400_000
    first_share: float = 0.12
    rows_per_step: int = 8
    matrix_rate: float = 3e-3
    other_rate: float = 3e-3
    warmup_steps: int = 40
    decay_share: float = 0.5
    weight_decay: float = 0.01
    user_weight: float = 0.1
    hidden_size: int = 192
    intermediate_size: int = 512
    layers: int = 6
    heads: int = 6
    seed: int = 7
    # Four more parts, each with a schedule of its own from its peak rate.
    wider_tokens: int = 3_000_000
    wider_rate: float = 1.5e-3
    turned_tokens: int = 2_600_000
    turned_rate: float = 2e-3
    filled_tokens: int = 1_400_000
    filled_rate: float = 1.5e-3
    stated_tokens: int = 2_600_000
    stated_rate: float = 1.5e-3


@dataclass(frozen=True)
class Piece:
    """A tree as flat arrays of one length: token, next token, its weight, position, branch."""

    ids: list[int]
    targets: list[int]
    weights: list[float]
    positions: list[int]
    branches: list[int]


class Encoder:
    """Turns trees into pieces; texts that recur within a tree are encoded once."""

    def __init__(self, tokenizer: Tokenizer, user_weight: float) -> None:
        self._tokenizer = tokenizer
        self._user_weight = user_weight
        self._header = {role: token_id(tokenizer, token) for role, token in ROLES.items()}
        self._end = token_id(tokenizer, END)
        self._known: dict[str, list[int]] = {}

    def dialogue(self, dialogue: Dialogue) -> tuple[list[int], list[float]]:
        """Token ids of a conversation, as the chat template renders it, and each token's weight."""
        ids: list[int] = []
        weights: list[float] = []
        for turn in dialogue:
            content = self._known.get(turn.content)
            if content is None:
                content = self._known[turn.content] = self._tokenizer.encode(turn.content).ids
            weight = turn.weight if turn.role == "assistant" else self._user_weight
            ids += [self._header[turn.role], *content, self._end]
            weights += [0.0, *([weight] * len(content)), weight if turn.role == "assistant" else 0.0]
        return ids, weights

    def piece(self, tree: Tree) -> Piece:
        """Flatten a tree: the longest common beginning once, then each branch.

        The step from the common beginning into a branch is not a target: it has several answers.
        """
        self._known.clear()
        encoded = [self.dialogue(dialogue) for dialogue in tree]
        shared = _common_length([ids for ids, _ in encoded]) if len(encoded) > 1 else len(encoded[0][0])
        piece = Piece([], [], [], [], [])
        ids, weights = encoded[0]
        _append(piece, ids[:shared], weights[:shared], start=0, branch=0)
        for branch, (ids, weights) in enumerate(encoded, 1):
            _append(piece, ids[shared:], weights[shared:], start=shared, branch=branch)
        return piece


def _common_length(sequences: list[list[int]]) -> int:
    for i, column in enumerate(zip(*sequences, strict=False)):
        if len(set(column)) > 1:
            return i
    return min(map(len, sequences))


def _append(piece: Piece, ids: list[int], weights: list[float], start: int, branch: int) -> None:
    if not ids:
        return
    piece.ids.extend(ids)
    piece.targets.extend([*ids[1:], 0])
    piece.weights.extend([*weights[1:], 0.0])
    piece.positions.extend(range(start, start + len(ids)))
    piece.branches.extend([branch] * len(ids))


@dataclass(frozen=True)
class Rows:
    """Packed rows, each field (N, L). Tokens attend within their segment, to its trunk and own branch."""

    ids: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    positions: np.ndarray
    segments: np.ndarray
    branches: np.ndarray


def draw_pieces(rng: random.Random, encoder: Encoder, mix: Mapping[Kind, float]) -> Iterator[Piece]:
    """An endless stream of pieces in which each kind of tree has its share of the tokens."""
    spent = dict.fromkeys(mix, 0.0)
    while True:
        kind = min(spent, key=lambda k: spent[k] + 40 * rng.random() / mix[k])
        piece = encoder.piece(kind(rng))
        while len(piece.ids) > CONTEXT_LENGTH:
            piece = encoder.piece(kind(rng))
        spent[kind] += len(piece.ids) / mix[kind]
        yield piece


def pack(pieces: Iterator[Piece], tokens: int, pad_id: int, open_rows: int = 16) -> Rows:
    """Fill rows of the context length, best fit among a few open ones."""
    count = math.ceil(tokens / CONTEXT_LENGTH)
    open_: list[tuple[list[Piece], int]] = []
    done: list[list[Piece]] = []
    while len(done) < count:
        piece = next(pieces)
        size = len(piece.ids)
        fitting = [i for i, (_, used) in enumerate(open_) if used + size <= CONTEXT_LENGTH]
        if fitting:
            best = max(fitting, key=lambda i: open_[i][1])
            open_[best] = (open_[best][0] + [piece], open_[best][1] + size)
        else:
            open_.append(([piece], size))
            if len(open_) > open_rows:
                fullest = max(range(len(open_)), key=lambda i: open_[i][1])
                done.append(open_.pop(fullest)[0])
    return _stack(done, pad_id)


def join(first: Rows, second: Rows) -> Rows:
    """The rows of both, in order."""
    return Rows(*(np.concatenate([getattr(r, f.name) for r in (first, second)]) for f in fields(Rows)))


def _stack(rows: list[list[Piece]], pad_id: int) -> Rows:
    shape = (len(rows), CONTEXT_LENGTH)
    ids = np.full(shape, pad_id, np.int16)
    targets, positions = np.zeros(shape, np.int16), np.zeros(shape, np.int16)
    segments, branches = np.full(shape, -1, np.int16), np.zeros(shape, np.int16)
    weights = np.zeros(shape, np.float16)
    for r, row in enumerate(rows):
        at = 0
        for s, piece in enumerate(row):
            part = slice(at, at + len(piece.ids))
            ids[r, part], targets[r, part] = piece.ids, piece.targets
            weights[r, part], positions[r, part] = piece.weights, piece.positions
            segments[r, part], branches[r, part] = s, piece.branches
            at += len(piece.ids)
    return Rows(ids, targets, weights, positions, segments, branches)


def build_model(recipe: Recipe, tokenizer: Tokenizer) -> LlamaForCausalLM:
    """A fresh model, initialised from the recipe's seed."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=CONTEXT_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=token_id(tokenizer, END),
        pad_token_id=token_id(tokenizer, PAD),
    )
    model = LlamaForCausalLM(config)
    model.set_attn_implementation("sdpa")
    return model


def as_batch(rows: Rows, part: slice) -> dict[str, torch.Tensor]:
    """Some rows as tensors, by field name."""
    import torch

    return {
        field.name: torch.from_numpy(getattr(rows, field.name)[part]).to(
            torch.float32 if field.name == "weights" else torch.int64
        )
        for field in fields(Rows)
    }


def _loss(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    import torch

    segments, branches = batch["segments"], batch["branches"]
    length = segments.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    same = segments[:, :, None] == segments[:, None, :]
    visible = (branches[:, None, :] == 0) | (branches[:, :, None] == branches[:, None, :])
    mask = torch.zeros(same.shape).masked_fill(~(same & visible & causal), -1e9)[:, None]
    logits = model(input_ids=batch["ids"], attention_mask=mask, position_ids=batch["positions"]).logits
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), batch["targets"].flatten(), reduction="none"
    )
    weights = batch["weights"].flatten()
    return (losses * weights).sum() / weights.sum()


def rate(step: int, steps: int, recipe: Recipe) -> float:
    """Learning rate at a step, as a share of the peak: linear warm-up, level, linear decay to zero."""
    decay_from = steps * (1 - recipe.decay_share)
    return min(1.0, (step + 1) / recipe.warmup_steps, (steps - step) / (steps - decay_from))


def _optimizers(model: LlamaForCausalLM, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for the embedding and the norms."""
    import torch

    from tools.pocket.muon import Muon

    inner = [p for p in model.model.layers.parameters() if p.ndim == 2]
    ids = {id(p) for p in inner}
    others = [p for p in model.parameters() if id(p) not in ids]
    return [
        Muon(inner, lr=recipe.matrix_rate, weight_decay=recipe.weight_decay),
        torch.optim.AdamW(others, lr=recipe.other_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def train(model: LlamaForCausalLM, rows: Rows, recipe: Recipe, log: Log, every: int = 25) -> None:
    """Train in place, one pass over `rows`."""
    import torch

    optimizers = _optimizers(model, recipe)
    peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    loss_of = torch.compile(_loss)
    steps = len(rows.ids) // recipe.rows_per_step
    started = time.monotonic()
    model.train()
    running = 0.0
    for step in range(steps):
        part = slice(step * recipe.rows_per_step, (step + 1) * recipe.rows_per_step)
        batch = as_batch(rows, part)
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            for group, at_peak in zip(optimizer.param_groups, peak, strict=True):
                group["lr"] = at_peak * rate(step, steps, recipe)
        loss = loss_of(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        model.zero_grad(set_to_none=True)
        running += loss.item()
        if (step + 1) % every == 0 or step + 1 == steps:
            seconds = time.monotonic() - started
            speed = (step + 1) * recipe.rows_per_step * CONTEXT_LENGTH / seconds
            left = seconds / (step + 1) * (steps - step - 1)
            log(
                f"step {step + 1}/{steps}  loss {running / ((step % every) + 1):.4f}  "
                f"{speed:,.0f} tokens/s  {seconds:.0f} s, {left:.0f} s left"
            )
            running = 0.0
