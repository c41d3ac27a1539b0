"""List the settings that another trainer knows, from a checkout of it: what the tests hold hand-overs against.

python -m tools.handoff_keys openrlhf CHECKOUT > tests/unit/handoff/known_keys/openrlhf.txt
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def openrlhf(checkout: Path) -> Iterator[str]:
    """The flags of `openrlhf.cli.train_ppo_ray`, without their dashes."""
    tree = ast.parse((checkout / "openrlhf/cli/train_ppo_ray.py").read_text())
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument"):
            continue
        name = node.args[0]
        if isinstance(name, ast.Constant):
            yield str(name.value).lstrip("-")
        elif isinstance(name, ast.JoinedStr):
            # f"--{prefix}.adam.lr", for the actor and the critic.
            tail = "".join(str(part.value) for part in name.values if isinstance(part, ast.Constant))
            yield from (f"{prefix}{tail.lstrip('-')}" for prefix in ("actor", "critic"))


def verl(checkout: Path) -> Iterator[str]:
    """The keys of its composed PPO configuration."""
    yield from _flat(_yaml(checkout / "verl/trainer/config/_generated_ppo_trainer.yaml"))


def nemo_rl(checkout: Path) -> Iterator[str]:
    """The keys of its PPO and GRPO examples."""
    for name in ("ppo_math_1B.yaml", "grpo_math_1B.yaml"):
        yield from _flat(_yaml(checkout / "examples/configs" / name))


def _yaml(path: Path) -> Any:
    from ruamel.yaml import YAML

    return YAML(typ="safe", pure=True).load(path)


def _flat(values: Any, prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        yield f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")


if __name__ == "__main__":
    readers = {"openrlhf": openrlhf, "verl": verl, "nemo-rl": nemo_rl}
    print("\n".join(sorted(set(readers[sys.argv[1]](Path(sys.argv[2]))))))
