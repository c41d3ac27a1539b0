"""The trainers as steps of the loop: what each is given, what it found, and how it says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from constitute.config.ppo import PPOConfig
from constitute.errors import GateFailed
from constitute.stats import Estimate
from constitute.train.best_of_n.run import run_best_of_n
from constitute.train.dpo import run_dpo
from constitute.train.ppo.start import run_ppo
from constitute.train.reward.train import run_reward
from constitute.train.sft import run_sft

if TYPE_CHECKING:
    from constitute.loop import Loop

Figures = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """One step of the loop: `run` does it and returns its figures, `words` says them for a person."""

    run: Callable[[Loop], Figures]
    words: Callable[[Figures], Iterator[str]]


def text_of(figure: Mapping[str, Any]) -> str:
    """An estimate of a step's figures for a person."""
    return Estimate.model_validate(figure).text(2)


def shares_of(results: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Each policy's share: of targets and of controls, where the set has them."""
    for policy, found in results.items():
        parts = {kind: found.get("parts", {}).get(f"kind: {kind}") for kind in ("target", "control")}
        if not any(parts.values()):
            yield f"{policy} {text_of(found['share'])}"
        for kind, share in parts.items():
            if share:
                yield f"{policy} {kind} {text_of(share)}"


def _unless_refused(loop: Loop, train: Callable[[], Figures]) -> Figures:
    """What `train` returns; where it refuses what it would start from, that is noted, and later steps run."""
    try:
        return train()
    except GateFailed as gate:
        loop.gate(gate)
        return {"refused": str(gate)}


def _without_reward(loop: Loop, settings: PPOConfig) -> bool:
    return "refused" in loop.found.get("reward", {}) and not settings.rewards


def _sft(loop: Loop) -> Figures:
    loop.rest()

    def train() -> Figures:
        return run_sft(loop.config, progress=loop.progress, force=loop.force)

    return _unless_refused(loop, train)


def _sft_words(figures: Figures) -> Iterator[str]:
    yield f"loss {figures['loss_first']:.3f} -> {figures['loss_last']:.3f} on {figures['rows']} rows"


def _reward(loop: Loop) -> Figures:
    loop.rest()

    def train() -> Figures:
        return run_reward(loop.config, progress=loop.progress, force=loop.force)

    found = _unless_refused(loop, train)
    if "verdict" in found and not loop.force:
        loop.gate(GateFailed(found["verdict"]))
    if "warning" in found:
        loop.progress.note(found["warning"])
    return found


def _held_out_words(figures: Figures) -> Iterator[str]:
    accuracy = figures["held_out"].get("accuracy")
    yield f"held-out accuracy {text_of(accuracy)}" if accuracy else "no held-out pairs to measure on"


def _by_reward(loop: Loop, method: Literal["ppo", "grpo"]) -> Figures:
    if _without_reward(loop, getattr(loop.config.train, method)):
        return {"refused": "there is no reward model"}
    loop.wake()
    loop.loaded = "in training"

    def train() -> Figures:
        return run_ppo(
            loop.config,
            list(loop.prompts),
            method=method,
            engine=loop.sampler(),
            progress=loop.progress,
            force=loop.force,
        )

    return _unless_refused(loop, train)


def _ppo(loop: Loop) -> Figures:
    return _by_reward(loop, "ppo")


def _grpo(loop: Loop) -> Figures:
    return _by_reward(loop, "grpo")


def _ppo_words(figures: Figures) -> Iterator[str]:
    before, after = text_of(figures["reward_before"]), text_of(figures["reward_after"])
    kl = "not measured" if figures["kl"] is None else f"{figures['kl']:.2f} nats"
    yield f"reward {before} -> {after}, KL {kl}"


def _dpo(loop: Loop) -> Figures:
    loop.rest()

    def train() -> Figures:
        return run_dpo(loop.config, progress=loop.progress, force=loop.force)

    found = _unless_refused(loop, train)
    if "held_out_doubt" in found:
        loop.progress.note(found["held_out_doubt"])
    return found


def _best_of_n(loop: Loop) -> Figures:
    if _without_reward(loop, loop.config.train.ppo):
        return {"refused": "there is no reward model"}
    start = "sft" if "sft" in loop.policies else "base"
    loop.use(start)

    def train() -> Figures:
        return run_best_of_n(
            loop.config,
            list(loop.prompts),
            model=loop.policies[start],
            sft=True,
            engine=loop.sampler(),
            progress=loop.progress,
            force=loop.force,
        )

    return _unless_refused(loop, train)


def _best_of_n_words(figures: Figures) -> Iterator[str]:
    rewards = figures["reward"]
    for name in dict.fromkeys((*list(rewards)[:1], *list(rewards)[-1:])):
        yield f"reward of {name} {text_of(rewards[name])}"
    yield from _sft_words(figures["sft"])


def _said(words: Callable[[Figures], Iterator[str]]) -> Callable[[Figures], Iterator[str]]:
    """The words of a trainer, or that it refused to train."""

    def say(figures: Figures) -> Iterator[str]:
        if "refused" in figures:
            yield "refused"
            return
        yield from words(figures)

    return say


TRAIN_STEPS = {
    "sft": Step(_sft, _said(_sft_words)),
    "reward": Step(_reward, _said(_held_out_words)),
    "ppo": Step(_ppo, _said(_ppo_words)),
    "grpo": Step(_grpo, _said(_ppo_words)),
    "dpo": Step(_dpo, _said(_held_out_words)),
    "best-of-n": Step(_best_of_n, _said(_best_of_n_words)),
}
