"""PPO, GRPO, DPO and best-of-n from one demo run, and PPO without SFT: harm and help at about equal KL.

    python -m benchmarks train.methods --run demo-run [--only grpo,dpo]

The run is a finished `constitute demo`: its prompts, labels, SFT model and reward model serve every method.
KL is measured alike for all trained policies: the mean over held-out prompts of log p_policy - log p_SFT of a
whole reply of the policy, at the temperature of sampling. Of GRPO and of DPO several strengths are trained,
and the one whose KL is nearest PPO's is the row. Best-of-n has no density; its row has the bound
ln n - (n - 1) / n. A method that was trained in an earlier call is not trained again.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constitute.cli.text import table
from constitute.config import RunConfig, load_config
from constitute.engines.render import Renderer, RenderSettings, TokenRow
from constitute.engines.swap import load_folder
from constitute.engines.tokenizer import load_tokenizer, turn_ends
from constitute.loop import Loop, open_loop
from constitute.packaged import model_path
from constitute.pocket.demo import answers_of, held_out_prompts, training_prompts
from constitute.pocket.effect import Effect, effect_of
from constitute.pocket.measure import Shown, policy_shares, read_replies
from constitute.progress import open_progress
from constitute.stats import Estimate, mean_of
from constitute.store import Store
from constitute.types import Message, Outcome, Response

FOLDER = "methods"
N = 4
# Replies in one forward pass.
_ROWS = 32
# Strengths tried of each method; the one nearest PPO's KL is shown.
GRPO_KL = (0.4, 0.1)
DPO_RATES = (1e-5, 2e-5, 5e-5)


@dataclass(frozen=True)
class Measured:
    """What was measured of one policy; `kl` is None where it has no density: `about` then has a bound."""

    name: str
    about: str
    shown: Shown
    kl: Estimate | None


def main(arguments: Sequence[str] = ()) -> None:
    """Train what is missing, measure every policy, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks train.methods")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--only", default="")
    options = parser.parse_args(arguments)
    config = load_config(options.run / "config.yaml", (), {"run": str(options.run.resolve())})
    only = [name for name in options.only.split(",") if name]
    with open_progress(False) as progress, ExitStack() as opened:
        loop = opened.enter_context(open_loop(config, training_prompts(config.seed), progress, force=True))
        store = opened.enter_context(Store.open(config.run))
        found = [
            one for name, each in METHODS.items() if not only or name in only for one in each(loop, store)
        ]
    print(table(HEAD, [row_of(one, found[0]) for one in nearest(found)]))
    print("\nall strengths tried:")
    print(table(HEAD, [row_of(one, found[0]) for one in found]))


HEAD = ("method", "settings", "KL from SFT, nats (95 %)", "harmful, %", "helpful, %", "harm less SFT's, p")


def nearest(found: Sequence[Measured]) -> list[Measured]:
    """One of each method: the one whose KL is nearest PPO's; all of what has no KL or no PPO to go by."""
    goal = next((one.kl.value for one in found if one.name == "PPO" and one.kl), None)
    best: dict[str, Measured] = {}
    for one in found:
        other = best.get(one.name)
        if other is None or (goal is not None and _gap(one, goal) < _gap(other, goal)):
            best[one.name] = one
    return list(best.values())


def _gap(one: Measured, goal: float) -> float:
    return abs((one.kl.value or 0.0) - goal) if one.kl is not None else math.inf


def row_of(one: Measured, sft: Measured) -> tuple[str, ...]:
    """A policy's figures, and its harm paired with that of the SFT model."""
    shares = policy_shares(one.shown)
    change: Effect = effect_of("harmful", {"sft": sft.shown, "it": one.shown}, "sft", "it")
    moved = "" if one is sft else f"{100 * (change.difference.value or 0.0):+.1f}, {change.p:.1g}"
    cells = (shares[axis].text(1, percent=True) for axis in ("harmful", "helpful"))
    return (one.name, one.about, _kl(one), *cells, moved)


def _kl(one: Measured) -> str:
    return "see settings" if one.kl is None else one.kl.text(2)


def _sft(loop: Loop, store: Store) -> Iterator[Measured]:
    yield _measured(loop, store, "SFT", "", loop.config.run / "sft")


def _ppo(loop: Loop, store: Store) -> Iterator[Measured]:
    settings = loop.config.train.ppo
    about = f"KL coefficient {settings.kl_coef:g}, {settings.iterations} iterations"
    yield _measured(loop, store, "PPO", about, loop.config.run / "ppo")


def _grpo(loop: Loop, store: Store) -> Iterator[Measured]:
    """As many replies and updates as PPO's, in groups of eight, no critic."""
    ppo = loop.config.train.ppo
    for coefficient in GRPO_KL:
        settings = loop.config.train.grpo.model_copy(
            update={
                **{name: getattr(ppo, name) for name in _SHARED},
                "kl_coef": coefficient,
                "samples_per_prompt": 8,
            }
        )
        config = _with(loop.config, grpo=settings)
        folder = loop.config.run / FOLDER / f"grpo-{coefficient:g}"
        _by_reward(loop, config, folder, method="grpo")
        yield _measured(loop, store, "GRPO", f"KL coefficient {coefficient:g} in the loss", folder)


_SHARED = (
    "iterations",
    "batch_size",
    "epochs",
    "minibatches",
    "max_new_tokens",
    "temperature",
    "learning_rate",
    "schedule",
    "ptx_coef",
    "ptx_data",
)


def _base_ppo(loop: Loop, store: Store) -> Iterator[Measured]:
    """RLAIF without SFT: PPO from the base model, held as the demo holds it, and held by next to nothing."""
    freed = {"kl_coef": 0.05, "ptx_coef": 0.0, "iterations": 24}
    ways = {
        "ppo-from-base": ("PPO from base", "as PPO", {}),
        "ppo-from-base-freed": ("PPO from base, freed", _said(freed), freed),
    }
    for folder, (name, about, changed) in ways.items():
        config = _with(loop.config, ppo=loop.config.train.ppo.model_copy(update=changed))
        out = loop.config.run / FOLDER / folder
        _by_reward(loop, config, out, policy=model_path(str(loop.config.model)))
        yield _measured(loop, store, name, about, out)


def _said(settings: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in settings.items())


def _dpo(loop: Loop, store: Store) -> Iterator[Measured]:
    from constitute.train.dpo import run_dpo

    for rate in DPO_RATES:
        settings = loop.config.train.dpo.model_copy(
            update={"learning_rate": rate, "batch_size": 16, "max_length": 512}
        )
        folder = loop.config.run / FOLDER / f"dpo-{rate:g}"
        run_dpo(_with(loop.config, dpo=settings), out=folder, progress=loop.progress, force=True)
        yield _measured(loop, store, "DPO", f"beta {settings.beta:g}, rate {rate:g}, 1 epoch", folder)


def _best_of_n(loop: Loop, store: Store) -> Iterator[Measured]:
    """The best of N replies of the SFT model by the reward model, chosen for each held-out prompt."""
    held_out, run = held_out_prompts(loop.config.seed), loop.config.run
    load_folder(loop.sampler(), str(run / "sft"))
    loop.loaded = "elsewhere"
    replies = [
        one
        for at in range(N)
        for one in answers_of(loop, f"{FOLDER}/sft-{at}", held_out, store)
        if one.data is not None
    ]
    tokens = _tokens(loop.config, run / "sft", replies)
    best: dict[str, tuple[float, Outcome]] = {}
    for one, score in zip(replies, rewards_of(str(run / "reward"), tokens), strict=True):
        if one.row_id not in best or score > best[one.row_id][0]:
            best[one.row_id] = score, one
    bound = math.log(N) - (N - 1) / N
    shown = read_replies((one for _, one in best.values()), held_out)
    yield Measured(f"best of {N}", f"KL at most {bound:.2f}", shown, None)


def _by_reward(
    loop: Loop, config: RunConfig, folder: Path, method: Any = "ppo", policy: str | None = None
) -> None:
    from constitute.train.ppo.start import run_ppo

    loop.loaded = "in training"
    run_ppo(
        config,
        list(loop.prompts),
        policy=policy,
        method=method,
        reward=str(config.run / "reward"),
        out=folder,
        engine=loop.sampler(),
        progress=loop.progress,
        force=True,
    )


def _with(config: RunConfig, **sections: Any) -> RunConfig:
    return config.model_copy(update={"train": config.train.model_copy(update=sections)})


def _measured(loop: Loop, store: Store, name: str, about: str, folder: Path) -> Measured:
    """The policy in `folder`: what its held-out replies show, and its KL from the SFT model."""
    held_out = held_out_prompts(loop.config.seed)
    load_folder(loop.sampler(), str(folder))
    loop.loaded = "elsewhere"
    stage = f"{FOLDER}/{folder.name}"
    replies = list(answers_of(loop, stage, held_out, store))
    tokens = _tokens(loop.config, folder, [one for one in replies if one.data is not None])
    temperature = loop.config.generate.temperature
    own, reference = (
        logprobs_of(str(model), tokens, temperature) for model in (folder, loop.config.run / "sft")
    )
    ratios = [a - b for a, b in zip(own, reference, strict=True)]
    return Measured(name, about, read_replies(replies, held_out), mean_of(ratios))


def _tokens(config: RunConfig, folder: Path, replies: Sequence[Outcome]) -> list[TokenRow]:
    """Each reply after its prompt as token ids, and which of them are the reply's."""
    tokenizer = load_tokenizer(str(folder))
    renderer = Renderer(
        tokenizer, str(folder), turn_ends(str(folder), tokenizer), RenderSettings.of(config.engine)
    )
    rows = []
    for one in replies:
        said = Response.model_validate(one.data)
        turns = (*said.prompt.messages, Message(role="assistant", content=said.response))
        rows += renderer.training_rows(turns)
    return rows


def logprobs_of(folder: str, rows: Sequence[TokenRow], temperature: float) -> list[float]:
    """log p of each reply, summed over its tokens, in nats, at the temperature."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    order = sorted(range(len(rows)), key=lambda at: len(rows[at][0]))
    found = [0.0] * len(rows)
    for start in range(0, len(order), _ROWS):
        places = order[start : start + _ROWS]
        width = max(len(rows[at][0]) for at in places)
        # Padded on the right: no token sees what comes after it.
        ids_BL = torch.tensor([[*rows[at][0], *[0] * (width - len(rows[at][0]))] for at in places])
        label_BL = torch.tensor([[*rows[at][1], *[-100] * (width - len(rows[at][1]))] for at in places])
        with torch.no_grad():
            logits_BLV = model(input_ids=ids_BL).logits[:, :-1] / temperature
        target_BL = label_BL[:, 1:]
        own_BL = logits_BLV.log_softmax(-1).gather(2, target_BL.clamp(min=0)[..., None])[..., 0]
        for at, total in zip(places, (own_BL * (target_BL >= 0)).sum(1).tolist(), strict=True):
            found[at] = total
    return found


def rewards_of(folder: str, rows: Sequence[TokenRow]) -> list[float]:
    """The reward model's score of each conversation."""
    import torch

    from constitute.train.common.batching import Batching
    from constitute.train.reward.model import open_reward_model

    tokenizer = load_tokenizer(folder)
    model = open_reward_model(folder, tokenizer, folder, torch.float32, torch.device("cpu"))
    with torch.no_grad():
        return model.scores([ids for ids, _ in rows], Batching(tokenizer.pad_token_id, 8192))


METHODS: dict[str, Callable[[Loop, Store], Iterator[Measured]]] = {
    "sft": _sft,
    "ppo": _ppo,
    "grpo": _grpo,
    "dpo": _dpo,
    "best-of-n": _best_of_n,
    "ppo-from-base": _base_ppo,
}
