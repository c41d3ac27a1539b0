"""The data card beside exported sets: what made them, and how every row ended."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from constitute.config import ExportConfig, GatesConfig
from constitute.config.data import NO_GATES
from constitute.data.formats import Kind, Row, export_format
from constitute.stages.card.lines import card_lines
from constitute.stages.card.records import LabelCard
from constitute.stages.verdict import label_warnings, stopped_by
from constitute.store.manifest import kept_constitution
from constitute.store.unfinished import Unfinished
from constitute.text import code_span, harmless
from constitute.types import Record, Status

Reasons = Sequence[tuple[Status, str, int]]
_ABSENT = "not recorded"
_SHOWN = 20
# Characters of a text in the example row.
_EXAMPLE = 600


class Exported(Record):
    """One file written: its rows, the stage they come from, how that stage ended, and what was left out.

    `counts` are the stage's rows by status; `left_out` counts rows that ended ok and gave no training
    row, by reason; `unlabelled` the rows for which no label could choose the answer, by reason.
    `unfinished` names the stages, up to this one, that stopped before they had seen every row. `unmet` are
    the ids of the exclude list that name no row of any set written together.
    """

    kind: Kind
    path: Path
    stage: str
    rows: int
    counts: dict[str, int]
    left_out: dict[str, int]
    unlabelled: dict[str, int]
    unfinished: tuple[Unfinished, ...] = ()
    unmet: tuple[str, ...] = ()
    example: Row = Field(default={}, exclude=True, repr=False)


@dataclass(frozen=True)
class Origin:
    """What made the sets: `settings` and `reasons` by stage, and the run's manifest, or nothing."""

    settings: Mapping[str, Any]
    reasons: Mapping[str, Reasons]
    manifest: Mapping[str, Any]


def card(
    sets: Sequence[Exported],
    config: ExportConfig,
    origin: Origin,
    labels: LabelCard | None = None,
    files: Mapping[str, str] | None = None,
    gates: GatesConfig = NO_GATES,
) -> str:
    """The card as Markdown, with the YAML block by which `datasets.load_dataset` finds the sets.

    `labels` is the label card, where a set depends on labels, and `gates` what it must reach. `files` are the
    sets of the folder by kind, those written now if absent.

    It holds no time and no path of this machine, so the same run gives the same card. Names and texts
    that come from a file or a model stand as code, in which no Markdown works.
    """
    lines = _front_matter(files or {part.kind: part.path.name for part in sets}, config)
    lines += ["", "# Data card", "", "AI-feedback data written by constitute from one run.", ""]
    lines += ["| file | rows | stage | ok | abstain | failed |", "|---|---|---|---|---|---|"]
    for part in sets:
        ended = " | ".join(str(part.counts.get(status, 0)) for status in ("ok", "abstain", "failed"))
        lines.append(f"| {part.path.name} | {part.rows} | {part.stage} | {ended} |")
    lines += _labels(labels, gates, _mapping(origin.settings.get("label")))
    lines += ["", f"Format: {config.format}. Revisions: {config.revisions}.{_chosen(config)}"]
    lines += _columns(sets, config)
    for part in sets:
        lines += [
            "",
            f"## {part.path.name}",
            "",
            *_origin(part.stage, _mapping(origin.settings.get(part.stage))),
        ]
        if filters := _mapping(origin.settings.get("filter")).get("filter"):
            lines.append(f"- filters: {code_span(filters)}")
        if part.unfinished:
            missing = "; ".join(each.sentence for each in part.unfinished)
            lines.append(f"- rows are missing: {missing}, then export again")
        lines += _not_exported(part, origin.reasons.get(part.stage, ()))
        lines += _example(part)
    if sets[0].unmet:
        shown = ", ".join(map(code_span, sets[0].unmet[:_SHOWN]))
        lines += ["", f"Ids of the exclude list that no exported set holds: {len(sets[0].unmet)}, {shown}."]
    return "\n".join([*lines, "", *_provenance(origin.manifest)]) + "\n"


def _front_matter(files: Mapping[str, str], config: ExportConfig) -> list[str]:
    """The YAML block of a Hub data card (https://huggingface.co/docs/hub/datasets-manual-configuration).

    JSON strings are YAML. One configuration is the default, so that a folder of two loads without a name.
    """
    first = "preferences" if "preferences" in files else next(iter(files))
    lines = ["---"]
    if config.licence is not None:
        lines.append(f"license: {json.dumps(config.licence)}")
    lines += ["tags: [constitute, rlaif]", "configs:"]
    for kind, name in files.items():
        lines += [f"- config_name: {kind}", *(["  default: true"] if kind == first else [])]
        lines += ["  data_files:", "  - split: train", f"    path: {json.dumps(name)}"]
    return [*lines, "---"]


def _example(part: Exported) -> list[str]:
    """The first row as JSON, in a fence that its own text cannot end."""
    if not part.example:
        return []
    text = harmless(json.dumps(_cut(part.example), ensure_ascii=False, indent=2))
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return ["", "The first row, long texts cut:", "", f"{fence}json", text, fence]


def _cut(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _EXAMPLE:
        return f"{value[:_EXAMPLE]} … ({len(value) - _EXAMPLE} characters more)"
    if isinstance(value, Mapping):
        return {key: _cut(each) for key, each in value.items()}
    return [_cut(each) for each in value] if isinstance(value, list) else value


def _labels(labels: LabelCard | None, gates: GatesConfig, settings: Mapping[str, Any]) -> list[str]:
    """The verdict, and what the labels are worth."""
    if labels is None:
        return []
    stopped = stopped_by(labels, gates)
    lines = ["", f"**Do not train on these labels:** {code_span(stopped)}"] if stopped else []
    lines += [line for text in label_warnings(labels) for line in ("", f"**Warning:** {code_span(text)}")]
    judge = _mapping(settings.get("model")).get("name")
    lines += ["", "## Labels", "", f"- judged by: {code_span(judge) if judge else _ABSENT}"]
    for line in card_lines(labels):
        plain = line.model_copy(update={"said": code_span(line.said) if line.said else ""})
        lines.append(f"- {line.name}: {plain.text}")
    return lines


def _chosen(config: ExportConfig) -> str:
    """What was left out on purpose, in words; empty where nothing was."""
    said = ""
    if config.accept == "both_orders":
        said += " SFT rows: those whose revision the judge prefers in both orders."
    if config.near_duplicates is not None:
        said += f" Near-duplicates from a Jaccard index of {config.near_duplicates:g} are left out."
    if config.overlap.against:
        said += (
            f" Rows that share {config.overlap.words} words in a row, or a whole short prompt, with "
            f"{', '.join(config.overlap.against)} are left out."
        )
    if config.reviewed == "only":
        said += " Preference rows: pairs that people reviewed, with their choice as the label."
    if config.reviewed == "override":
        said += " Preference rows: where people reviewed a pair, their choice is the label (`judged_by`)."
    if config.sft_share < 1:
        said += f" SFT rows: of {config.sft_share:.0%} of the prompts (seed {config.seed})."
    if config.match_lengths:
        said += f" Pairs are matched in length (seed {config.seed})."
    return said


def _columns(parts: Sequence[Exported], config: ExportConfig) -> list[str]:
    about = export_format(config.format).about
    if about:
        return ["", f"- {about}"]
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
    model, section, templates = (code_span(value) if value else none for value in values)
    return [
        f"- model: {model}",
        f"- settings: {section}",
        f"- prompt templates: {templates}",
        f"- constitution hash: {code_span(settings['constitution']) if 'constitution' in settings else none}",
        f"- seed: {code_span(settings['seed']) if 'seed' in settings else _ABSENT}",
    ]


def _not_exported(part: Exported, reasons: Reasons) -> list[str]:
    lines = [f"- not exported, ok but {reason}: {number}" for reason, number in sorted(part.left_out.items())]
    lines += [
        f"- last revision kept, {reason}: {number}" for reason, number in sorted(part.unlabelled.items())
    ]
    lines += [
        f"- not exported, {status}, {code_span(reason)}: {number}"
        for status, reason, number in reasons[:_SHOWN]
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
        lines.append(f"- {name}: {code_span(value) if value else _ABSENT}")
    kept = kept_constitution(manifest)
    texts = {} if kept is None else {each.id: f", {code_span(each.text)}" for each in kept.principles}
    digests = sorted((str(name), str(digest)[:16]) for name, digest in principles.items())
    for name, digest in digests:
        lines.append(f"- principle {code_span(name)}: {code_span(digest)}{texts.get(name, '')}")
    return lines


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
