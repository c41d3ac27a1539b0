"""Rebuild pocket from nothing: corpus, tokenizer, training, weights (`make pocket`)."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from constitute.packaged import model_path
from tools.pocket.mixes import FILLED_MIX, FIRST_MIX, PLAIN_MIX, STATED_MIX, TURNED_MIX, WIDER_MIX
from tools.pocket.tokenizer import PAD, save_tokenizer, token_id, train_tokenizer
from tools.pocket.training import Encoder, Log, Recipe, build_model, draw_pieces, join, pack, train

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM

WEIGHTS = Path(model_path("pocket"))
_TREES_FOR_TOKENIZER = 1000
# The names under which the corpora of the packaged weights were drawn.
_CORPUS_SEEDS = {
    "wider": "pocket-corpus-last",
    "turned": "pocket-corpus-turned",
    "filled": "pocket-corpus-filled",
    "stated": "pocket-corpus-stated",
}


def save_model(model: LlamaForCausalLM, folder: Path) -> None:
    """Write weights rounded to float16, with a configuration that loads them as float32.

    Loaded as float32, the rounded weights are exactly what the score card measured.
    """
    import torch

    rounded = {
        name: tensor.detach().to(torch.float16).contiguous()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"
    }
    model.config.dtype = torch.float32
    model.config.save_pretrained(folder)
    model.generation_config.eos_token_id = model.config.eos_token_id
    model.generation_config.pad_token_id = model.config.pad_token_id
    model.generation_config.save_pretrained(folder)
    from safetensors.torch import save_file

    save_file(rounded, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)


def build(recipe: Recipe, out: Path, start: Path | None = None, skip: int = 0) -> None:
    """Run the recipe and put the finished model folder in place of `out`.

    With `start`, a model folder, training goes on from there, without the first `skip` later parts.
    """
    started = time.monotonic()

    def log(line: str) -> None:
        print(f"[{time.monotonic() - started:6.0f} s] {line}", flush=True)

    tokenizer, model = _first_part(recipe, log) if start is None else _loaded(start)
    encoder, pad = Encoder(tokenizer, recipe.user_weight), token_id(tokenizer, PAD)
    parts = (
        ("wider", WIDER_MIX, recipe.wider_tokens, recipe.wider_rate),
        ("turned", TURNED_MIX, recipe.turned_tokens, recipe.turned_rate),
        ("filled", FILLED_MIX, recipe.filled_tokens, recipe.filled_rate),
        ("stated", STATED_MIX, recipe.stated_tokens, recipe.stated_rate),
    )
    for name, mix, tokens, peak in parts[skip:]:
        log(f"part {name}")
        rng = random.Random(f"{_CORPUS_SEEDS[name]}/{recipe.seed}")
        rows = pack(draw_pieces(rng, encoder, mix), tokens, pad)
        train(model, rows, replace(recipe, matrix_rate=peak, other_rate=peak), log)

    staged = out.with_name(f".{out.name}.new")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    save_model(model, staged)
    save_tokenizer(tokenizer, staged)
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.rename(out, old)
    os.rename(staged, out)
    shutil.rmtree(old, ignore_errors=True)
    log(f"wrote {out}, {sum(f.stat().st_size for f in out.iterdir()):,} bytes")


def _first_part(recipe: Recipe, log: Log) -> tuple[Tokenizer, LlamaForCausalLM]:
    rng = random.Random(f"pocket-tokenizer/{recipe.seed}")
    trees = (kind(rng) for _ in range(_TREES_FOR_TOKENIZER) for kind in PLAIN_MIX)
    tokenizer = train_tokenizer(turn.content for tree in trees for dialogue in tree for turn in dialogue)
    log(f"tokenizer: {tokenizer.get_vocab_size()} tokens")
    rng, encoder = random.Random(f"pocket-corpus/{recipe.seed}"), Encoder(tokenizer, recipe.user_weight)
    pad, first = token_id(tokenizer, PAD), int(recipe.tokens * recipe.first_share)
    rows = join(
        pack(draw_pieces(rng, encoder, FIRST_MIX), first, pad),
        pack(draw_pieces(rng, encoder, PLAIN_MIX), recipe.tokens - first, pad),
    )
    log(f"corpus: {rows.ids.size:,} positions, {(rows.segments >= 0).mean():.1%} filled")
    model = build_model(recipe, tokenizer)
    log(f"model: {model.num_parameters():,} parameters")
    train(model, rows, recipe, log)
    return tokenizer, model


def _loaded(folder: Path) -> tuple[Tokenizer, LlamaForCausalLM]:
    import torch
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return Tokenizer.from_file(str(folder / "tokenizer.json")), model


def main() -> None:
    """Parse the command line and build."""
    parser = argparse.ArgumentParser(prog="python -m tools.pocket.recipe", description=__doc__)
    parser.add_argument("--tokens", type=int, default=Recipe.tokens, help="positions to train on")
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="model folder to write")
    parser.add_argument("--from", dest="start", type=Path, help="model folder to go on from")
    parser.add_argument("--skip", type=int, default=0, help="later parts that this folder has behind it")
    given = parser.parse_args()
    build(replace(Recipe(), tokens=given.tokens, seed=given.seed), given.out, given.start, given.skip)


if __name__ == "__main__":
    main()
