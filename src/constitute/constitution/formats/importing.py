"""Import constitutions from public formats: YAML of our own, JSON of four projects, Markdown and lists.

| format | what is read |
|---|---|
| Constitutional AI (arXiv 2212.08073) | `CritiqueRevisionInstructions.json`, `RLMadisonInstructions.json` |
| Hugging Face llm-swarm | `{"constitutions": [{"critic", "revision"}]}` |
| SALMON (arXiv 2310.05910) | `[{"dimension", "definition", "weight"?}]` |
| Inverse Constitutional AI (arXiv 2406.06560) | principle lists, the constitution, annotated pairs |
| Markdown, plain text | list items, else sections, else paragraphs or lines |
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from constitute.constitution.formats.markdown import read_markdown
from constitute.constitution.read import FORMS, MAX_WEIGHT, fill_form, parse_constitution, slug
from constitute.constitution.write import free_id
from constitute.errors import DataError, UsageError
from constitute.hh import is_hh
from constitute.strict_yaml import decode, read_bytes, shorten
from constitute.types import Constitution, Principle

MAX_BYTES = 20_000_000
KNOWN = (
    "known are the Constitutional AI paper's instruction files, llm-swarm, SALMON and ICAI JSON, "
    "Markdown or plain lists, and constitution YAML"
)
_PAPER = "Constitutional AI, arXiv 2212.08073"
# The turn marks that the paper's files put before and after a text.
_BARE, _CRITIQUE, _REVISION = ("", ""), ("CritiqueRequest:", "Critique:"), ("RevisionRequest:", "Revision:")
_OPTIONS = ("", "Options:")
_COMPARES = re.compile(r"(please )?(select|choose|pick|prefer|compare|which)\b", re.IGNORECASE)
_NUMBERED = re.compile(r"\d+\. +(\S.*)")
_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
# What a constitution file cannot hold: control characters, lone surrogates and non-characters.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Draft:
    """A principle as a foreign file gives it: empty where the file says nothing."""

    text: str = ""
    id: str = ""
    critique: str = ""
    revise: str = ""
    compare: str = ""
    weight: float = 1.0
    tags: tuple[str, ...] = ()
    source: str = ""


def import_constitution(paths: Sequence[Path], name: str = "") -> tuple[Constitution, list[str]]:
    """One constitution from one or more files, and a sentence for each thing that was not carried over.

    A file of critiques and revisions given with a file of comparisons is paired by position: each
    principle then has all three forms and every form is drawn as often as in its own file. (The
    paper's two lists are independent of each other; the pairing has no meaning of its own.)
    Raises `UsageError` for an unknown format and `DataError` for broken content.
    """
    for path in paths:
        if not path.is_file():
            raise UsageError(f"no such file: {path}; give the files of a constitution; {KNOWN}")
    if len(paths) == 1 and paths[0].suffix in (".yaml", ".yml"):
        constitution = parse_constitution(read_bytes(paths[0]), paths[0])
        return (constitution.model_copy(update={"name": name}) if name else constitution), []
    notes: list[str] = []
    titles: list[str] = []
    descriptions: list[str] = []
    groups: list[list[Draft]] = []
    for path in paths:
        title, description, drafts = _read(path, notes)
        if not drafts:
            raise DataError(f"{path}: no principle was found; {KNOWN}")
        titles.append(title or path.stem)
        descriptions.append(description)
        groups.append(drafts)
    drafts = _merge(groups, notes)
    return Constitution(
        name=name or titles[0],
        description="\n\n".join(filter(None, descriptions)),
        principles=tuple(_finish(drafts)),
    ), notes


def _read(path: Path, notes: list[str]) -> tuple[str, str, list[Draft]]:
    if path.suffix in (".yaml", ".yml"):
        constitution = parse_constitution(read_bytes(path), path)
        drafts = [Draft(**p.model_dump(include=set(Draft.__annotations__))) for p in constitution.principles]
        return constitution.name, constitution.description, drafts
    text = decode(read_bytes(path, MAX_BYTES), path)
    if path.suffix in (".md", ".markdown", ".txt"):
        return _from_markdown(text, path, notes)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as problem:
        raise DataError(
            f"{path}:{problem.lineno}:{problem.colno}: not JSON ({problem.msg}); {KNOWN}"
        ) from None
    except RecursionError:
        raise DataError(f"{path}: nested too deep to be a constitution; {KNOWN}") from None
    return _from_json(value, path, notes)


def _from_json(value: Any, path: Path, notes: list[str]) -> tuple[str, str, list[Draft]]:
    if isinstance(value, str):
        lines = [_NUMBERED.fullmatch(line) for line in value.strip().split("\n")]
        if all(lines):
            texts = [_text(line[1], path, f"principle {n}") for n, line in enumerate(lines, 1) if line]
            return "", "", [_comparison(text) for text in texts]
        return _from_markdown(value, path, notes)
    # The paper's few-shot transcripts are a list of texts too.
    if isinstance(value, list) and value and all(isinstance(v, str) and not is_hh(v) for v in value):
        paper = all(item.rstrip().endswith("Options:") for item in value)
        texts = [_text(item, path, f"[{i}]", _OPTIONS if paper else _BARE) for i, item in enumerate(value)]
        return "", "", [Draft(text=t, compare=t, source=_PAPER) if paper else _comparison(t) for t in texts]
    if isinstance(value, list) and value and all(isinstance(i, dict) and "definition" in i for i in value):
        return "", "", [_salmon(item, path, f"[{i}]", notes) for i, item in enumerate(value)]
    if isinstance(value, dict) and isinstance(value.get("constitutions"), list):
        if value.get("system_chat"):
            notes.append(f"{path}: the few-shot examples under system_chat are not part of a constitution")
        rows = list(enumerate(value["constitutions"]))
        return "", "", [_pair(row, "critic", "revision", path, f"constitutions[{i}]") for i, row in rows]
    if isinstance(value, dict) and isinstance(value.get("annotators"), dict):
        rows_of = [a for a in value["annotators"].values() if isinstance(a, dict)]
        kept = [a.get("description") for a in rows_of if a.get("type") == "principle"]
        return "", "", [_comparison(_text(text, path, "annotators")) for text in kept]
    if isinstance(value, dict) and value and all(_is_cai(item) for item in value.values()):
        return "", "", [d for key, item in value.items() for d in _cai(key, item, path)]
    if (
        isinstance(value, dict)
        and value
        and all(k.isdigit() and isinstance(v, str) for k, v in value.items())
    ):
        return "", "", [_comparison(_text(item, path, key)) for key, item in value.items()]
    raise UsageError(f"{path}: this JSON is not a constitution in a known format; {KNOWN}")


def _from_markdown(text: str, path: Path, notes: list[str]) -> tuple[str, str, list[Draft]]:
    document = read_markdown(text)
    if document.left_out:
        lines = ", ".join(map(str, document.left_out[:5]))
        notes.append(f"{path}: {len(document.left_out)} line(s) outside the list left out (line {lines})")
    drafts = [
        replace(
            _comparison(item.text),
            id=_identity(item.label),
            tags=(slug(item.section),) if slug(item.section) else (),
        )
        for item in document.items
    ]
    return document.title, document.description, drafts


def _comparison(text: str) -> Draft:
    # "Select the response that …" is an instruction to compare, and stands as the compare form too.
    return Draft(text=text, compare=text if _COMPARES.match(text) else "")


def _salmon(row: dict[str, Any], path: Path, where: str, notes: list[str]) -> Draft:
    weight = row.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight <= MAX_WEIGHT:
        raise DataError(f"{path}: {where}.weight is {weight!r}; write a number from 0 to {MAX_WEIGHT:.0f}")
    note = f"{path}: negative_definition is left out; a constitution has no place for it"
    if row.get("negative_definition") and note not in notes:
        notes.append(note)
    dimension = row.get("dimension")
    return Draft(
        text=_text(row["definition"], path, f"{where}.definition"),
        id=_identity(dimension) if isinstance(dimension, str) else "",
        weight=float(weight),
        source="SALMON, arXiv 2310.05910",
    )


def _pair(row: Any, critic: str, revision: str, path: Path, where: str) -> Draft:
    if not isinstance(row, dict):
        raise DataError(f"{path}: {where} is {shorten(repr(row))}; it must hold {critic!r} and {revision!r}")
    critique = _text(row.get(critic), path, f"{where}.{critic}")
    revise = _text(row.get(revision), path, f"{where}.{revision}")
    return Draft(text=revise, critique=critique, revise=revise)


def _is_cai(item: Any) -> bool:
    return isinstance(item, dict) and "prompt" in item and "edit_request" in item


def _cai(key: str, item: dict[str, Any], path: Path) -> list[Draft]:
    """Principles of one entry; several critique prompts share its weight, as the paper draws among them."""
    prompts = item["prompt"] if isinstance(item["prompt"], list) else [item["prompt"]]
    revise = _text(item["edit_request"], path, f"{key}.edit_request", _REVISION)
    return [
        Draft(
            text=revise,
            id=_identity(key),
            critique=_text(prompt, path, f"{key}.prompt", _CRITIQUE),
            revise=revise,
            weight=1.0 / len(prompts),
            source=_PAPER,
        )
        for prompt in prompts
    ]


def _identity(name: str) -> str:
    """A foreign name as an id: itself where it is one."""
    return name if _ID.fullmatch(name) else slug(name)


def _text(value: Any, path: Path, where: str, marks: tuple[str, str] = _BARE) -> str:
    """`value` as clean text, without the turn marks before and after it."""
    if not isinstance(value, str):
        raise DataError(f"{path}: {where} is {shorten(repr(value))}; it must be text")
    text = value.replace("\r\n", "\n").replace("\r", "\n")
    if found := _CONTROL.search(text):
        raise DataError(f"{path}: {where} holds the control character U+{ord(found[0]):04X}; remove it")
    bare = text.strip().removeprefix(marks[0]).removesuffix(marks[1]).strip()
    if not bare:
        raise DataError(f"{path}: {where} is empty; write it or remove the entry")
    return bare


def _merge(groups: list[list[Draft]], notes: list[str]) -> list[Draft]:
    revising = [g for g in groups if all(d.critique and d.revise and not d.compare for d in g)]
    comparing = [g for g in groups if all(d.compare and not d.critique for d in g)]
    if len(groups) != 2 or len(revising) != 1 or len(comparing) != 1:
        return [draft for group in groups for draft in group]
    first, second = revising[0], comparing[0]
    paired = min(len(first), len(second))
    rest = max(len(first), len(second)) - paired
    tail = f"; {rest} more have their missing forms filled" if rest else ""
    notes.append(f"{paired} critique-revision and comparison instructions paired by position{tail}")
    return [replace(a, compare=b.compare) if a and b else a or b for a, b in zip_longest(first, second)]  # type: ignore[misc]


def _finish(drafts: list[Draft]) -> list[Principle]:
    taken: set[str] = set()
    principles = []
    for number, draft in enumerate(drafts, 1):
        words = " ".join(draft.text.split()[:6])
        identity = free_id(draft.id or slug(words, 48) or f"principle-{number}", taken)
        taken.add(identity)
        forms = {form: getattr(draft, form) or fill_form(form, draft.text) for form in FORMS}
        principles.append(
            Principle(
                id=identity,
                text=draft.text,
                critique=forms["critique"],
                revise=forms["revise"],
                compare=forms["compare"],
                weight=draft.weight,
                tags=draft.tags,
                source=draft.source,
            )
        )
    return principles
