"""Call a user's Python function as a reward; what goes wrong in it becomes a sentence that names it.

A user's code is imported here and nowhere else, and only where it is named as `module:function`.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import importlib
import inspect
import math
import numbers
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from constitute.errors import ConstituteError, DataError, UsageError
from constitute.train.rewards.parts import Opening, RewardFunction
from constitute.types import Completion, Prompt

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def is_function(source: str) -> bool:
    """Whether a text names a function as `module:function` and no file."""
    return bool(_FUNCTION.fullmatch(source)) and not Path(source).exists()


def open_function(source: str, opening: Opening) -> tuple[RewardFunction, str]:
    """The function named `module:function`, ready to be called, and its identity."""
    return ready(source, load_function(source), opening)


def ready(name: str, function: RewardFunction, opening: Opening) -> tuple[RewardFunction, str]:
    """`function` made blocking and checked, and its identity."""
    return checked(name, function, opening.runner), identity_of(name, function)


def load_function(source: str) -> RewardFunction:
    """The function named `module:function`, from the working directory or an installed module."""
    module_name, _, name = source.partition(":")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as problem:
        missing = str(problem.name)
        if module_name != missing and not module_name.startswith(f"{missing}."):
            raise UsageError(
                f"reward {source!r}: its module needs {missing!r}, which is not installed"
            ) from problem
        raise UsageError(
            f"reward {source!r}: no module {module_name!r} in {here} or installed; name it as Python imports "
            "it, without .py"
        ) from None
    except Exception as problem:
        raise UsageError(
            f"reward {source!r}: importing {module_name} raised {_said(problem)}; --debug shows where"
        ) from problem
    try:
        function: Any = functools.reduce(getattr, name.split("."), module)
    except AttributeError:
        raise UsageError(
            f"reward {source!r}: {module_name} has no {name!r}; check the function's name"
        ) from None
    if not callable(function):
        raise UsageError(
            f"reward {source!r} is a {type(function).__name__}, not a function of (prompts, completions)"
        )
    loaded: RewardFunction = function
    return loaded


def checked(name: str, function: RewardFunction, runner: asyncio.Runner) -> RewardFunction:
    """`function` made blocking; what goes wrong in it becomes a sentence that names it."""

    def rewards(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float]:
        try:
            values: Any = function(prompts, completions)
            if inspect.isawaitable(values):
                values = runner.run(_finished(values))
        except ConstituteError:
            raise
        except Exception as problem:
            raise DataError(
                f"the reward function {name} raised {_said(problem)}; --debug shows where; mend it, then run "
                "the same command to go on from the last checkpoint"
            ) from problem
        return _numbers(name, values, prompts)

    return rewards


async def _finished(values: Any) -> Any:
    return await values


def _numbers(name: str, values: Any, prompts: Sequence[Prompt]) -> list[float]:
    """One finite float a prompt, from a list, an array or a tensor."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        raise DataError(
            f"the reward function {name} returned a {type(values).__name__}; it must return a list of numbers"
        )
    if len(values) != len(prompts):
        raise DataError(
            f"the reward function {name} returned {len(values)} rewards for {len(prompts)} responses; it "
            "must return one number for each"
        )
    found = []
    for prompt, value in zip(prompts, values, strict=True):
        number = value.item() if hasattr(value, "item") else value
        if isinstance(number, bool) or not isinstance(number, numbers.Real) or not math.isfinite(number):
            raise DataError(
                f"the reward function {name} returned {value!r} for the response to prompt {prompt.id!r}, "
                "not a finite number; mend it, then run the same command to go on from the last checkpoint"
            )
        found.append(float(number))
    return found


def identity_of(name: str, function: RewardFunction) -> str:
    """The function's name and a hash of the file it stands in, where there is one."""
    try:
        file = inspect.getsourcefile(inspect.unwrap(function))
        content = Path(file).read_bytes() if file else b""
    except (TypeError, OSError):
        return name
    return f"{name}#{hashlib.sha256(content).hexdigest()[:16]}" if content else name


def _said(problem: Exception) -> str:
    text = " ".join(str(problem).split())[:200]
    return f"{type(problem).__name__}: {text}" if text else type(problem).__name__
