"""The data card beside exported sets: what made them, and how every row ended."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from constitute.config import ExportConfig
from constitute.types import Status

Reasons = Sequence[tuple[Status, str, int]]
_ABSENT = "not recorded"
_SHOWN = 20


class Set(Protocol):
    """What the card says of one file; `export.Exported` is one."""

    kind: Any
    path: Any
    stage: str
    rows: int
    counts: dict[str, int]
    left_out: dict[str, int]
    unlabelled: dict[str, int]


def card(
    sets: Iterable[Set],
    config: ExportConfig,
    settings: Mapping[str, Mapping[str, Any]],
    reasons: Mapping[str, Reasons],
    manifest: Mapping[str, Any],
) -> str:
    """The card as Markdown. `settings` and `reasons` are by stage; `manifest` is the run's, or empty.

    It holds no time and no path of this machine, so the same run gives the same card.
    """
    lines = ["# Data card", "", "AI-feedback data written by constitute from one run.", ""]
    lines += ["| file | rows | stage | ok | abstain | failed |", "|---|---|---|---|---|---|"]
    parts = list(sets)
    for part in parts:
        ended = " | ".join(str(part.counts.get(status, 0)) for status in ("ok", "abstain", "failed"))
        lines.append(f"| {part.path.name} | {part.rows} | {part.stage} | {ended} |")
    lines += ["", f"Format: {config.format}. Revisions: {config.revisions}.", *_columns(parts, config)]
    for part in parts:
        lines += ["", f"## {part.path.name}", "", *_origin(part.stage, settings.get(part.stage, {}))]
        lines += _not_exported(part, reasons.get(part.stage, ()))
    return "\n".join([*lines, "", *_provenance(manifest)]) + "\n"


def _columns(parts: Sequence[Set], config: ExportConfig) -> list[str]:
    lines = []
    if any(part.kind == "sft" for part in parts):
        held = "`text`: the transcript" if config.format == "hh" else "`messages`: the conversation"
        lines.append(f"- SFT rows: {held}, ending with the answer to imitate; `principle_ids`: drawn for it.")
    if any(part.kind == "preferences" for part in parts):
        lines.append(
            "- Preference rows: `chosen_prob` is the soft label P(chosen), at least 0.5, from log-"
            "probabilities of the option tokens in both orders; `principle_ids`: what it was judged by."
        )
    return ["", *lines]


def _origin(stage: str, settings: Mapping[str, Any]) -> list[str]:
    # A stage that was recorded and names none of a thing used none; that is not the same as unknown.
    none = "none used" if settings else _ABSENT
    values = [settings.get(name) for name in ("model", stage, "prompts")]
    model, section, templates = (_json(value) if value else none for value in values)
    return [
        f"- model: {model}",
        f"- settings: {section}",
        f"- prompt templates: {templates}",
        f"- constitution hash: {settings.get('constitution', none)}",
        f"- seed: {settings.get('seed', _ABSENT)}",
    ]


def _not_exported(part: Set, reasons: Reasons) -> list[str]:
    lines = [f"- not exported, ok but {reason}: {number}" for reason, number in sorted(part.left_out.items())]
    lines += [
        f"- last revision kept, {reason}: {number}" for reason, number in sorted(part.unlabelled.items())
    ]
    lines += [
        f"- not exported, {status}: {_row(reason)}: {number}" for status, reason, number in reasons[:_SHOWN]
    ]
    rest = sum(number for _, _, number in reasons[_SHOWN:])
    return [*lines, f"- not exported, other reasons: {rest}"] if rest else lines


def _provenance(manifest: Mapping[str, Any]) -> list[str]:
    constitution = manifest.get("constitution") or {}
    principles = constitution.get("principles") or {}
    versions = manifest.get("versions") or {}
    lines = ["## Run", "", f"- constitute: {manifest.get('constitute', _ABSENT)}"]
    lines.append(f"- versions: {_json(versions) if versions else _ABSENT}")
    lines.append(f"- constitution: {constitution.get('name', _ABSENT)}")
    lines += [f"- principle {name}: {str(digest)[:16]}" for name, digest in sorted(principles.items())]
    return lines


def _json(value: Any) -> str:
    return f"`{json.dumps(value, ensure_ascii=False, sort_keys=True)}`"


def _row(text: str) -> str:
    return " ".join(text.split())
