"""Render the words said to a model; every one of them stands in `prompts/*.j2`.

Templates come from `prompts/` only. What is filled in is data: it is never expanded again, so
template syntax inside a principle, a prompt or a model's answer stays as it is written.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from constitute.packaged import find

__all__ = ["TemplateError", "render", "source", "template_hash", "template_names"]


@cache
def source(name: str) -> str:
    """The text of the template `name`, looked up in the working directory and then the package."""
    return find(name, "prompts", ".j2").read_text(encoding="utf-8")


@cache
def template_hash(name: str) -> str:
    """First 16 hex digits of the SHA-256 of a template's text."""
    return hashlib.sha256(source(name).encode()).hexdigest()[:16]


@cache
def _compiled(name: str) -> Any:
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(source(name))


def render(name: str, **values: Any) -> str:
    """Fill the template `name`; surrounding blank lines are stripped.

    Raises `UsageError` for an unknown template, `jinja2.UndefinedError` (a bug) for a missing value.
    """
    return str(_compiled(name).render(**values)).strip()


def template_names() -> list[str]:
    """Names of the packaged templates, sorted."""
    from constitute.packaged import roots

    return sorted({Path(p).stem for root in roots() for p in (root / "prompts").glob("*.j2")})
