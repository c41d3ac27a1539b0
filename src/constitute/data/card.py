"""The data card beside exported sets: what made them, and how every row ended."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from constitute.config import ExportConfig
from constitute.data.formats import Kind, export_format
from constitute.stages.card import LabelCard
from constitute.stages.verdict import label_warnings, verdict
from constitute.stats import share_of
from constitute.store.unfinished import Unfinished
from constitute.text import harmless
from constitute.types import Record, Status

Reasons = Sequence[tuple[Status, str, int]]
_ABSENT = "not recorded"
_SHOWN = 20


class Exported(Record):
    """One file written: its rows, the stage they come from, how that stage ended, and what was left out.

    `counts` are the stage's rows by status; `left_out` counts rows that ended ok and gave no training
    row, by reason; `unlabelled` the rows for which no label could choose the answer, by reason.
    `unfinished` names the stages, up to this one, that stopped before they had seen every row.
    """

    kind: Kind
    path: Path
    stage: str
    rows: int
    counts: dict[str, int]
    left_out: dict[str, int]
    unlabelled: dict[str, int]
    unfinished: tuple[Unfinished, ...] = ()


def card(
    sets: Sequence[Exported],
    config: ExportConfig,
    settings: Mapping[str, Any],
    reasons: Mapping[str, Reasons],
    manifest: Mapping[str, Any],
    labels: LabelCard | None = None,
) -> str:
    """The card as Markdown. `settings` and `reasons` are by stage; `manifest` is the run's, or empty.

    `labels` is the label card, where a set depends on labels.

    It holds no time and no path of this machine, so the same run gives the same card. Names and texts
    that come from a file or a model stand as code, in which no Markdown works.
    """
    lines = ["# Data card", "", "AI-feedback data written by constitute from one run.", ""]
    lines += ["| file | rows | stage | ok | abstain | failed |", "|---|---|---|---|---|---|"]
    for part in sets:
        ended = " | ".join(str(part.counts.get(status, 0)) for status in ("ok", "abstain", "failed"))
        lines.append(f"| {part.path.name} | {part.rows} | {part.stage} | {ended} |")
    lines += _labels(labels)
    lines += ["", f"Format: {config.format}. Revisions: {config.revisions}.", *_columns(sets, config)]
    for part in sets:
        lines += ["", f"## {part.path.name}", "", *_origin(part.stage, _mapping(settings.get(part.stage)))]
        if part.unfinished:
            missing = "; ".join(each.sentence for each in part.unfinished)
            lines.append(f"- rows are missing: {missing}, then export again")
        lines += _not_exported(part, reasons.get(part.stage, ()))
    return "\n".join([*lines, "", *_provenance(manifest)]) + "\n"


def _labels(labels: LabelCard | None) -> list[str]:
    """The verdict, and what the labels are worth."""
    if labels is None:
        return []
    found = verdict(labels)
    lines = [] if found is None else ["", f"**Do not train on these labels:** {_code(found.sentence)}"]
    lines += [line for text in label_warnings(labels) for line in ("", f"**Warning:** {_code(text)}")]
    flips = share_of(labels.flips, labels.ordered).text()
    lines += ["", "## Labels", ""]
    lines += [f"- labels made by {_code(each.by)}: {each.share.text()}" for each in labels.decided]
    lines += [f"- votes that change with the order: {flips}"]
    mass = _ABSENT if labels.mass is None else f"{labels.mass:.3f}"
    lines.append(f"- probability of the two labels together, mean: {mass}")
    lines.append(f"- the longer answer is preferred: {labels.longer.text()}")
    if labels.longer_human.n:
        lines.append(f"- the longer answer is preferred by people: {labels.longer_human.text()}")
    if labels.agreement is not None:
        found_in = labels.agreement
        ties = f"undecided and left out: {found_in.human_ties} by people, {found_in.label_ties} by the labels"
        lines.append(f"- agrees with people: {found_in.accuracy.text()}; {ties}")
        lines.append(f"- Cohen's kappa with people: {found_in.kappa.text()}")
    return lines


def _columns(parts: Sequence[Exported], config: ExportConfig) -> list[str]:
    lines = []
    if any(part.kind == "sft" for part in parts):
        held = export_format(config.format).conversation
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
    model, section, templates = (_code(value) if value else none for value in values)
    return [
        f"- model: {model}",
        f"- settings: {section}",
        f"- prompt templates: {templates}",
        f"- constitution hash: {_code(settings['constitution']) if 'constitution' in settings else none}",
        f"- seed: {_code(settings['seed']) if 'seed' in settings else _ABSENT}",
    ]


def _not_exported(part: Exported, reasons: Reasons) -> list[str]:
    lines = [f"- not exported, ok but {reason}: {number}" for reason, number in sorted(part.left_out.items())]
    lines += [
        f"- last revision kept, {reason}: {number}" for reason, number in sorted(part.unlabelled.items())
    ]
    lines += [
        f"- not exported, {status}, {_code(reason)}: {number}" for status, reason, number in reasons[:_SHOWN]
    ]
    rest = sum(number for _, _, number in reasons[_SHOWN:])
    return [*lines, f"- not exported, other reasons: {rest}"] if rest else lines


def _provenance(manifest: Mapping[str, Any]) -> list[str]:
    constitution = _mapping(manifest.get("constitution"))
    principles = _mapping(constitution.get("principles"))
    lines = ["## Run", ""]
    for name, value in (
        ("constitute", manifest.get("constitute")),
        ("versions", manifest.get("versions")),
        ("constitution", constitution.get("name")),
    ):
        lines.append(f"- {name}: {_code(value) if value else _ABSENT}")
    digests = sorted((str(name), str(digest)[:16]) for name, digest in principles.items())
    return [*lines, *(f"- principle {_code(name)}: {_code(digest)}" for name, digest in digests)]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _code(value: Any) -> str:
    """`value` as a code span that its own text cannot end: text on one line, other values as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    text = " ".join(harmless(text).split())
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    # Blanks keep backticks of the text apart from the fence; a renderer takes them away again.
    return (
        f"{fence} {text} {fence}" if text.startswith("`") or text.endswith("`") else f"{fence}{text}{fence}"
    )
