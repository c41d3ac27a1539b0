"""A trained model's folder: what made it, its model card, and whether it is already there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from constitute import __version__
from constitute.engines.identity import model_fingerprint
from constitute.engines.render import RenderSettings
from constitute.errors import RunMismatch
from constitute.files import atomic_folder, read_json, write_json, write_text
from constitute.progress import heard
from constitute.stats import mean
from constitute.store.manifest import differences, versions

_RECORD = "training.json"
_FREE = frozenset(
    {
        "checkpoint_every",
        "device_batch_size",
        "eval_every",
        "gradient_checkpointing",
        "keep_checkpoints",
        "keep_policies",
        "microbatch_tokens",
        "report_to",
        "samples_kept",
        "save_rollouts",
        "sync_gap_limit",
    }
)


def model_identity(model: str) -> str:
    """What a recipe says of a model: the fingerprint of a local folder, a Hub name as it is."""
    return model_fingerprint(model) or model


def recipe(kind: str, config: Any, seed: int, **inputs: str) -> dict[str, Any]:
    """What determines a trained model: the trainer, its settings, the seed and the inputs' hashes.

    Settings that change memory or what is written down are left out: they change no result beyond
    rounding, and a run that ran out of memory must be able to go on with less.
    """
    settings = {name: value for name, value in config.model_dump(mode="json").items() if name not in _FREE}
    return {"kind": kind, "config": settings, "seed": seed, "inputs": inputs}


def rendering_inputs(rendering: RenderSettings | None) -> dict[str, str]:
    """What a recipe says of rendering: the day that templates are told, and variables set for them."""
    if rendering is None:
        return {}
    found = {} if rendering.date is None else {"date": rendering.date}
    if rendering.kwargs:
        found["chat_template_kwargs"] = json.dumps(dict(rendering.kwargs), sort_keys=True)
    return found


def unfinished(folder: Path) -> bool:
    """Whether a training that writes `folder` began and did not end: it left checkpoints and no model."""
    return (folder / "checkpoints").is_dir() and not (folder / _RECORD).is_file()


def tell_finished(out: Path, done: str) -> None:
    """Say to whoever is watching that `out` holds all that was asked for, so that nothing is done again.

    A command that is typed twice prints the same figures, and would pass for a second training.
    """
    progress = heard()
    if progress is not None:
        progress.note(
            f"{out} was finished before, with the same settings and inputs, so nothing is {done} again; its "
            "figures are those of that time"
        )


def finished(out: Path, made_by: dict[str, Any], *, tell: bool = True) -> dict[str, Any] | None:
    """The summary of the model in `out` if `made_by` made it, None where there is none yet.

    That it is there is said, unless `tell` is false: for a part of a training that is no training itself.
    Raises `RunMismatch` for a model made by other settings or inputs: it is never overwritten.
    """
    record = out / _RECORD
    if not record.is_file():
        return None
    stored = read_json(record)
    check_recipe(out, stored["made_by"], made_by)
    if tell:
        tell_finished(out, "trained")
    summary: dict[str, Any] = stored["summary"]
    return summary


def check_recipe(out: Path, stored: dict[str, Any], made_by: dict[str, Any]) -> None:
    """Raise `RunMismatch`, with old and new value of all that differs, unless both recipes are the same.

    A folder of an older version may hold settings that a recipe leaves out now.
    """
    bound = {name: value for name, value in stored.get("config", {}).items() if name not in _FREE}
    changed = differences({**stored, "config": bound}, made_by)
    if changed:
        raise RunMismatch(
            f"{out} was made with other settings: {changed}; give the same settings, or another "
            "--out (`constitute run` takes a new --run DIR, with --reuse and the old one), or remove the "
            "folder to train again"
        )


def publish(
    out: Path, save: Callable[[Path], None], *, made_by: dict[str, Any], summary: dict[str, Any], base: str
) -> None:
    """Write a model's folder file by file, the record of its recipe last: without it the folder is torn."""
    for left in out.glob(".saved*"):
        # A killed save left it.
        shutil.rmtree(left, ignore_errors=True)
    saved = out / ".saved"
    with atomic_folder(saved) as staging:
        save(staging)
        write_card(staging, made_by, summary, base)
    for file in sorted(saved.iterdir()):
        os.replace(file, out / file.name)
    saved.rmdir()
    write_record(out / _RECORD, made_by, summary)


def write_record(path: Path, made_by: dict[str, Any], summary: dict[str, Any] | None) -> None:
    """Write what made a result, with which versions, and its figures once there are some."""
    write_json(path, {"made_by": made_by, "versions": _versions(), "summary": summary})


def _versions() -> dict[str, str]:
    return {"constitute": __version__, **versions()}


def save_into(
    network: Any, tokenizer: Any, losses: Sequence[float], *, ends_of: str | None = None
) -> Callable[[Path], None]:
    """What writes a model, its tokenizer and the loss of each step (metrics.jsonl) into a folder.

    With `ends_of`, the generation configuration of that model too: a reward model has none of its own, and
    what is trained from it or scored by it must end where the model's answers do.
    """

    def save(folder: Path) -> None:
        from transformers import GenerationConfig

        network.save_pretrained(folder)
        if ends_of is not None:
            # A model need not say how it generates.
            with suppress(OSError, ValueError):
                GenerationConfig.from_pretrained(ends_of).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        lines = [json.dumps({"step": step, "loss": loss}) for step, loss in enumerate(losses, start=1)]
        write_text(folder / "metrics.jsonl", "\n".join(lines) + "\n")

    return save


def loss_figures(losses: Sequence[float]) -> dict[str, float]:
    """Steps, and the mean loss over the first and over the last tenth of them."""
    share = max(1, len(losses) // 10)
    return {"steps": len(losses), "loss_first": mean(losses[:share]), "loss_last": mean(losses[-share:])}


_TITLES = {
    "sft": "a model fine-tuned on revisions (supervised, constitutional)",
    "reward": "a reward model trained on soft AI preference labels",
    "best-of-n": "a model fine-tuned on the best of n samples (rejection sampling)",
    "expert-iteration": "a model fine-tuned on the best of n samples of the model before (expert iteration)",
    "conditioned": "a model that learned good and bad answers, each under a condition that says which",
    "quark": "a policy trained under reward tokens with AI feedback (Quark)",
    "dpo": "a policy trained by direct preference optimisation on soft AI preference labels",
    "kto": "a policy trained by KTO on single answers, desirable or not",
    "ppo": "a policy trained by PPO with AI feedback",
    "grpo": "a policy trained by GRPO with AI feedback",
}


def write_card(folder: Path, made_by: dict[str, Any], summary: dict[str, Any], base: str) -> None:
    """Write the model card: what the model is, its figures, and the recipe that made it."""
    write_text(folder / "README.md", _card(made_by, summary, base))


def _card(made_by: dict[str, Any], summary: dict[str, Any], base: str) -> str:
    figures = json.dumps(summary, indent=2)
    recipe_text = json.dumps(made_by, indent=2)
    libraries = ", ".join(f"{name} {number}" for name, number in _versions().items())
    return (
        f"---\nlibrary_name: transformers\nbase_model: {json.dumps(Path(base).name)}\n"
        f"tags: [constitute, rlaif]\n---\n\n# {made_by['kind']}: {_TITLES[made_by['kind']]}\n\n"
        f"Base model: `{base}`. Made by {libraries}.\n\n"
        f"## Figures\n```json\n{figures}\n```\n\n## Recipe\n```json\n{recipe_text}\n```\n"
    )
