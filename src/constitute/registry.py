"""Registries: plain dicts from a name to an object, or to "module:object", imported when asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from constitute.errors import UsageError


def registered(registry: Mapping[str, Any], name: str, what: str) -> Any:
    """The object under `name`.

    Raises `UsageError`, such as `no such stage: 'lable'; did you mean 'label'?`.
    """
    if name not in registry:
        raise UsageError(f"no such {what}: {name!r}; {nearest(name, registry)}")
    found = registry[name]
    if not isinstance(found, str):
        return found
    module, attribute = found.split(":")
    return getattr(import_module(module), attribute)


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean 'label'?`, or all that is known where nothing is near."""
    known = list(known)
    near = get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
