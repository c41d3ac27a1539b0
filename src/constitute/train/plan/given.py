"""What `train plan` is asked for: trainers, and a file that is a run's or a model's. Loads no torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from constitute.config import RunConfig, load_config
from constitute.errors import UsageError
from constitute.registry import nearest

# In the order in which a run trains.
METHODS = ("sft", "reward", "dpo", "ppo", "grpo")
# What is a setting of a trainer and no trainer -> that trainer, and the setting.
_A_SETTING = {
    **{loss: ("dpo", f"train.dpo.loss={loss}") for loss in ("kto", "ipo", "simpo", "orpo", "rrhf")},
    **{
        name: ("grpo", f"train.grpo.advantage={name}")
        for name in ("rloo", "reinforce++", "reinforce++baseline", "online_dpo", "f_dpg")
    },
}
_OF_A_MODEL = "config.json"


def check_methods(methods: Iterable[str]) -> None:
    """Raise `UsageError` for a trainer that no plan is made for, with what to give in its place."""
    for method in methods:
        if method in METHODS:
            continue
        hint = nearest(method, METHODS)
        if method in _A_SETTING:
            trainer, setting = _A_SETTING[method]
            hint = f"it is a setting of another: give --method {trainer} --set {setting}"
        raise UsageError(f"no such trainer to plan for: {method!r}; {hint}")


def settings_for(file: Path | None, sets: Sequence[str], model: str | None) -> RunConfig:
    """The settings of a run.yaml; or the default ones, for the model whose config.json or folder `file` is.

    Raises `UsageError` for a file of neither kind, and for a model's beside another `model`.
    """
    folder = None if file is None else _model_folder(file)
    if folder is None:
        return load_config(file, sets, {"model": model})
    if model is not None:
        raise UsageError(f"{file} is a model and --model {model} names another; give one of them")
    return load_config(None, sets, {"model": str(folder)})


def _model_folder(file: Path) -> Path | None:
    """The folder of the model that `file` belongs to; None for what is to be read as run.yaml."""
    if (file / _OF_A_MODEL).is_file():
        return file
    if file.is_dir():
        raise UsageError(
            f"{file} is a folder without {_OF_A_MODEL}; give run.yaml, or a model's {_OF_A_MODEL} or folder"
        )
    if file.suffix != ".json" or not file.is_file():
        return None
    try:
        of_a_model = "model_type" in json.loads(file.read_bytes())
    except (ValueError, TypeError):
        return None
    if of_a_model and file.name != _OF_A_MODEL:
        raise UsageError(
            f"{file} describes a model and is not called {_OF_A_MODEL}; put it under that name into a folder "
            "of its own"
        )
    return file.parent if of_a_model else None
