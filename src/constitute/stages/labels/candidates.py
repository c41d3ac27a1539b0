"""Ways to ask a judge that are worth telling apart: label methods, each in the layouts that change it."""

from __future__ import annotations

from collections.abc import Sequence

from constitute.config.data import LAYOUTS, LabelConfig
from constitute.errors import UsageError
from constitute.registry import nearest
from constitute.stages.labels import LABEL_METHODS, label_method


def candidates(methods: Sequence[str], layouts: Sequence[str] | None = None) -> list[tuple[str, str]]:
    """(method, layout) of each way to ask; every layout if none is named.

    The layout is empty where a method asks the same in each. Raises `UsageError` for an unknown name.
    """
    layouts = list(LAYOUTS) if layouts is None else layouts
    for name, known, what in (
        *((method, LABEL_METHODS, "label method") for method in methods),
        *((layout, LAYOUTS, "layout") for layout in layouts),
    ):
        if name not in known:
            raise UsageError(f"no such {what}: {name!r}; {nearest(name, known)}")
    alike = {method: len({_templates(method, layout) for layout in LAYOUTS}) == 1 for method in methods}
    return [(method, layout) for method in methods for layout in ([""] if alike[method] else layouts)]


def every_method() -> list[str]:
    """The methods that any pair can be labelled by."""
    return [name for name in LABEL_METHODS if not label_method(name).alone]


def candidate_config(label: LabelConfig, method: str, layout: str) -> LabelConfig:
    """`label` with the method, and with the layout where one is named."""
    return label.model_copy(update={"method": method, **({"layout": layout} if layout else {})})


def named(method: str, layout: str) -> str:
    """Such as `choice, shared`, or the method alone where a layout makes no difference."""
    return f"{method}, {layout}" if layout else method


def _templates(method: str, layout: str) -> tuple[str, ...]:
    """What a method asks with in a layout."""
    cfg = LabelConfig.model_validate({"method": method, "layout": layout})
    return label_method(method).templates(cfg)
