"""Stages, trainings and metrics in the words that people use for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

_STAGES = {
    "generate": "Responses",
    "revise": "Critiques and revisions",
    "filter": "Filter",
    "label": "Preference labels",
}
_TRAININGS = {
    "sft": "Train: SFT",
    "reward": "Train: reward model",
    "dpo": "Train: DPO",
    "ppo": "Train: PPO",
    "grpo": "Train: GRPO",
    "best-of-n": "Best of n",
}
_METRICS = {
    "accuracy": "accuracy in training",
    "eval_accuracy": "accuracy on held-out pairs",
    "eval_loss": "loss on held-out rows",
    "mean_token_accuracy": "share of tokens foreseen",
    "nll": "negative log-likelihood",
    "kl": "KL from the reference, nats a response",
    "entropy": "entropy, nats a token",
    "length": "tokens a response",
    "eos_rate": "share of responses that end",
    "kl_coef": "KL coefficient",
    "explained_variance": "variance that the critic explains",
    "flat_groups": "share of prompts whose samples all score alike",
    "sync_gap": "gap of engine and trainer, nats a token",
}
_FIGURES = {
    "accuracy": "accuracy on held-out pairs",
    "nll": "negative log-likelihood, nats",
    "brier": "Brier score",
    "margin": "margin of the better answer",
    "ece": "calibration error",
    "log_ratio_chosen": "log-ratio of chosen answers, nats",
    "log_ratio_rejected": "log-ratio of rejected answers, nats",
}


def stage_titles(stages: Iterable[str]) -> dict[str, str]:
    """The title of each stage, in the order of the loop; stages that share one have their digests too."""
    order = list(_STAGES)
    ranked = sorted(stages, key=lambda stage: order.index(stage) if stage in order else len(order))
    titles = {stage: _stage_title(stage) for stage in ranked}
    counts = Counter(titles.values())
    return {
        stage: title if counts[title] == 1 else f"{title} ({stage.rpartition('/')[2]})"
        for stage, title in titles.items()
    }


def _stage_title(stage: str) -> str:
    """`Eval of base on flatters` for `evals-run/flatters/base/95039055`."""
    match stage.split("/"):
        case ["evals-run", *name, policy, _] if name:
            return f"Eval of {policy} on {'/'.join(name)}"
        case ["evals-write", *name, _] if name:
            return f"Eval items written: {'/'.join(name)}"
        case ["held-out", policy]:
            return f"Held-out answers of {policy}"
    return _STAGES.get(stage, stage)


def training_title(kind: str, folder: str) -> str:
    """`Train: reward model`; the folder follows where the kind does not tell it."""
    title = _TRAININGS.get(kind, f"Train: {kind}")
    if kind == "best-of-n" and folder.endswith("/sft"):
        return "Train: SFT on the best of n"
    return title if folder == kind else f"{title} ({folder})"


def metric_title(key: str) -> str:
    """`tokens a response` for `length`; words with spaces for a key that is not known."""
    if key.startswith("held_out/"):
        return f"{key.split('/')[-1]} on held-out prompts"
    return _METRICS.get(key, key.replace("_", " "))


def figure_title(key: str) -> str:
    """What a figure of a trainer's summary is of."""
    return _FIGURES.get(key, key.replace("_", " "))
