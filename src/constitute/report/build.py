"""Build the view of a run from its store and files; pure but for reading the store."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from constitute.report.read import RunFiles
from constitute.report.rows import chains_of, labels_of, principles_of
from constitute.report.scores import evals_of, training_of
from constitute.report.text import clip
from constitute.report.view import (
    Fact,
    Figure,
    NamedFigure,
    PolicyRow,
    PolicyTable,
    Reason,
    Report,
    StageView,
)
from constitute.store import Store

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*(?:e[+-]?\d+)?")
_POLICIES = ("base", "sft", "ppo")
MAX_REASONS = 12
# Figures of summary.json shown above everything else, where they are there: path, name, percentage.
_HEADLINE = (
    ("labels.agreement", "labels agree with the oracle", True),
    ("labels.order_flip", "votes that change with the order", True),
    ("reward_model.accuracy", "reward model accuracy, held-out pairs", True),
    ("ppo.reward_before", "reward before PPO", False),
    ("ppo.reward_after", "reward after PPO", False),
    ("ppo.kl", "KL from the reference, nats a response", False),
)


def build(store: Store, files: RunFiles, rows: int = 24) -> Report:
    """The whole view; `rows` chains are shown, evenly spaced over the run."""
    principles, principles_note = principles_of(store, files.constitution)
    shown, total = chains_of(store, rows)
    constitution = files.manifest.get("constitution") or {}
    return Report(
        title=clip(files.name, 120),
        facts=_facts(files),
        policies=_policies(files.summary),
        headline=_headline(files.summary),
        stages=tuple(_stage(store, name) for name in store.stages()),
        constitution=clip(constitution.get("name", ""), 200),
        principles=principles,
        principles_note=" ".join(part for part in (files.constitution_note, principles_note) if part),
        labels=labels_of(store),
        chains=shown,
        chains_of=total,
        training=training_of(files.metrics),
        evals=evals_of(files.results),
    )


def figure(value: Any, percent: bool = True) -> Figure | None:
    """A figure from a number or from `{value, n, low, high}`; None for anything else, NaN included."""
    if isinstance(value, Mapping):
        middle = _number(value.get("value"))
        n = _number(value.get("n"))
        if middle is None:
            return None
        low, high = _number(value.get("low")), _number(value.get("high"))
        return Figure(value=middle, low=low, high=high, n=None if n is None else int(n), percent=percent)
    middle = _number(value)
    return None if middle is None else Figure(value=middle, percent=percent)


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None


def _facts(files: RunFiles) -> tuple[Fact, ...]:
    """What made the run, from its manifest."""
    manifest, config = files.manifest, files.manifest.get("config") or {}
    constitution = manifest.get("constitution") or {}
    facts: list[tuple[str, Any]] = [
        ("constitution", constitution.get("name")),
        ("constitution hash", constitution.get("hash")),
        ("principles", len(constitution.get("principles") or {}) or None),
        ("model", config.get("model")),
        ("judge", config.get("judge")),
        *_models(manifest),
        ("prompts", config.get("prompts")),
        ("seed", manifest.get("seed")),
        ("begun", _time(manifest.get("created"))),
        ("last written", _time(manifest.get("updated"))),
        ("constitute", manifest.get("constitute")),
        ("versions", ", ".join(f"{name} {at}" for name, at in (manifest.get("versions") or {}).items())),
    ]
    return tuple(Fact(name=name, value=clip(value, 500)) for name, value in facts if value not in (None, ""))


def _time(value: object) -> str:
    """An ISO time in UTC to the minute."""
    return str(value or "")[:16].replace("T", " ") + " UTC" if value else ""


def _models(manifest: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Each model that answered, by its identity, with the data stages it answered in."""
    stages: dict[str, list[str]] = {}
    for stage, noted in (manifest.get("stages") or {}).items():
        identity = ((noted or {}).get("settings") or {}).get("model") or {}
        if isinstance(identity, Mapping) and "/" not in stage:
            parts = [identity.get(key) for key in ("engine", "name", "revision", "fingerprint")]
            stages.setdefault(" · ".join(str(part) for part in parts if part), []).append(stage)
    return [("answered by", f"{who} ({', '.join(names)})") for who, names in stages.items() if who]


def _policies(summary: Mapping[str, Any]) -> PolicyTable | None:
    measured = summary.get("policies")
    if not isinstance(measured, Mapping) or not measured:
        return None
    names = [name for name in _POLICIES if name in measured]
    names += [name for name in measured if name not in names]
    axes = list(dict.fromkeys(axis for name in names for axis in measured[name]))
    rows = [
        PolicyRow(name=clip(axis, 80), figures=tuple(figure(measured[name].get(axis)) for name in names))
        for axis in axes
    ]
    return PolicyTable(policies=tuple(clip(name, 80) for name in names), rows=tuple(rows))


def _headline(summary: Mapping[str, Any]) -> tuple[NamedFigure, ...]:
    found = []
    for path, name, percent in _HEADLINE:
        value: Any = summary
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if (shown := figure(value, percent)) is not None:
            found.append(NamedFigure(name=name, figure=shown))
    return tuple(found)


def _stage(store: Store, name: str) -> StageView:
    counts = store.counts(name)
    kinds: Counter[tuple[str, str]] = Counter()
    for status, reason, count in store.reasons(name):
        kinds[status, _NUMBER.sub("#", clip(reason, 300))] += count
    listed = kinds.most_common()
    reasons = [Reason(status=s, text=text, count=n) for (s, text), n in listed[:MAX_REASONS]]
    if rest := listed[MAX_REASONS:]:
        left = sum(count for _, count in rest)
        reasons.append(Reason(status="other", text=f"{len(rest)} more kinds of reason", count=left))
    return StageView(
        name=clip(name, 200),
        ok=counts["ok"],
        abstain=counts["abstain"],
        failed=counts["failed"],
        total=sum(counts.values()),
        reasons=tuple(reasons),
    )
