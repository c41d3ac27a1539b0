"""Render the words said to a model; every one of them stands in `prompts/*.j2`.

Templates come from `prompts/` only. What is filled in is data: it is never expanded again, so
template syntax inside a principle, a prompt or a model's answer stays as it is written.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from constitute.errors import UsageError
from constitute.files import read_text
from constitute.packaged import find

__all__ = ["TemplateError", "render", "source", "template_hash", "template_names"]


@cache
def source(name: str) -> str:
    """The text of the template `name`, looked up in the working directory and then the package."""
    return read_text(_file(name))


@cache
def template_hash(name: str) -> str:
    """First 16 hex digits of the SHA-256 of a template's text."""
    return hashlib.sha256(source(name).encode()).hexdigest()[:16]


@cache
def _compiled(name: str) -> Any:
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True
    )
    try:
        return environment.from_string(source(name))
    except TemplateSyntaxError as problem:
        raise UsageError(
            f"{_file(name)}:{problem.lineno}: {problem.message}; mend the template, or remove "
            "the file to use the packaged one"
        ) from None


def render(name: str, **values: Any) -> str:
    """Fill the template `name`; surrounding blank lines are stripped.

    Raises `UsageError` for an unknown template, and for one that cannot be filled, with its file.
    """
    template = _compiled(name)
    try:
        return str(template.render(**values)).strip()
    except (TemplateError, TypeError, ValueError, ArithmeticError) as problem:
        raise UsageError(
            f"{_file(name)}: the template cannot be filled ({problem}); it may use {', '.join(values)}"
        ) from problem


def _file(name: str) -> Path:
    return find(name, "prompts", ".j2")


def template_names() -> list[str]:
    """Names of the packaged templates, sorted."""
    from constitute.packaged import roots

    return sorted({Path(p).stem for root in roots() for p in (root / "prompts").glob("*.j2")})
