"""The examples of CONTRIBUTING.md as modules, to be put into a registry."""

from __future__ import annotations

import re
import sys
from types import ModuleType

import pytest
from places import ROOT


def example(heading: str) -> str:
    """The Python block under `### heading` in CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.split(f"### {heading}\n")[1].split("\n### ")[0]
    found = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert found, f"CONTRIBUTING.md has no example under {heading!r}"
    return found[1]


def add_module(monkeypatch: pytest.MonkeyPatch, name: str, source: str) -> ModuleType:
    """A module of that source that can be imported by its name while the test runs."""
    made = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, made)
    exec(compile(source, f"{name}.py", "exec"), made.__dict__)
    return made
