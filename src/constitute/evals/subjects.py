"""What sets are written for besides behaviours and principles: examples of items, and occupations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from constitute.config.evals import EvalsConfig
from constitute.data.rows import read_rows
from constitute.errors import DataError, UsageError
from constitute.evals.families import FAMILIES, family_spec
from constitute.evals.items import read_items, slug
from constitute.evals.quality.base import parts_of
from constitute.files import BadLine
from constitute.templates import render
from constitute.types import Constitution, Principle, Record


class Shot(Record):
    """An example of an item: what is asked, the answer that shows the behaviour, and the other."""

    stem: str
    showing: str
    other: str


class Seed(Record):
    """A behaviour, or the id of a principle, with examples; `phrase` follows "an assistant that"."""

    behavior: str
    phrase: str
    shots: tuple[Shot, ...]


class Occupation(Record):
    """An occupation, the other person of its sentences (empty: a model names one), and who works in it."""

    name: str
    other: str = ""
    percent_women: float | None = None
    title: str = ""


def read_shots(files: Sequence[str]) -> tuple[Shot, ...]:
    """The examples of files of items. Raises `DataError` for an item without just two answers in words."""
    shots: list[Shot] = []
    for file in files:
        for item in read_items(Path(file)):
            part = parts_of(item)
            if len(part.texts) != 2 or len(part.matching) != 1:
                raise DataError(
                    f"{file}:{int(item.id)}: an example needs two answers in words, one of them matching; "
                    "list them in the question as (A) and (B)"
                )
            (showing,) = part.matching
            shots.append(Shot(stem=part.stem, showing=part.texts[showing], other=part.texts[1 - showing]))
    return tuple(shots)


def seed_of_behavior(behavior: str, shots: tuple[Shot, ...]) -> Seed:
    """A behaviour with the examples of the files. Raises `UsageError` without any."""
    if not shots:
        raise UsageError(
            f"choice needs examples of {behavior!r} to show its writer; give --examples FILE with items in "
            "the anthropics/evals format, or --principle ID of a principle that has examples"
        )
    return Seed(behavior=behavior, phrase=behavior, shots=shots)


def seed_of_principle(principle: Principle, shots: tuple[Shot, ...]) -> Seed:
    """A principle with its own examples, drafts left out, or with those of the files.

    Raises `UsageError` without any.
    """
    own = tuple(
        Shot(stem=each.prompt, showing=each.better, other=each.worse)
        for each in principle.examples
        if not each.draft
    )
    if not (own or shots):
        raise UsageError(
            f"principle {principle.id!r} has no examples to show the writer of choice items; add some to the "
            "constitution, or give --examples FILE"
        )
    phrase = render("evals_keeps", principle=principle)
    return Seed(behavior=principle.id, phrase=phrase, shots=own or shots)


def read_occupations(file: str) -> list[Occupation]:
    """Occupations of a file: the keys of winogenerated_occupations.jsonl, or one a line of a text file.

    Raises `DataError` for a row without one, and for one that is there twice.
    """
    found: dict[str, Occupation] = {}
    for row in read_rows(file):
        if isinstance(row, BadLine):
            raise DataError(f"{row.where}: {row.reason}; give one occupation a line")
        one = _occupation(row.where, row.value)
        if one.name in found:
            raise DataError(f"{row.where}: {one.name!r} is there twice; give each occupation once")
        found[one.name] = one
    if not found:
        raise DataError(f"{file}: no occupations; give one a line")
    return list(found.values())


def _occupation(where: str, row: dict[str, Any]) -> Occupation:
    name = row.get("occupation", row.get("prompt"))
    if not isinstance(name, str) or not name.strip():
        raise DataError(f"{where}: no text under 'occupation'; give the name of an occupation")
    percent = row.get("BLS_percent_women_2019")
    if isinstance(percent, str):
        percent = _number(where, percent)
    return Occupation(
        name=name.strip(),
        other=str(row.get("other_person") or "").strip(),
        percent_women=percent,
        title=str(row.get("BLS_original_occupation") or ""),
    )


def _number(where: str, text: str) -> float | None:
    try:
        return float(text) if text.strip() else None
    except ValueError:
        raise DataError(f"{where}: BLS_percent_women_2019 is {text!r}; give a number") from None


# What a user names -> the subjects of the families that take it.
_TAKEN_BY = {
    "behavior": ("behavior", "examples", "occupation"),
    "principle": ("principle", "examples"),
    "occupation": ("occupation",),
    "examples": ("examples",),
}


def check_subjects(cfg: EvalsConfig, behaviors: Sequence[str], principles: Sequence[Principle]) -> None:
    """Raise `UsageError` for something named that no family writes items for."""
    families = cfg.families
    taken = {family_spec(family).subject for family in families}
    given_by_kind = {
        "behavior": behaviors,
        "principle": principles,
        "occupation": cfg.occupations,
        "examples": cfg.examples,
    }
    for kind, given in given_by_kind.items():
        if given and not taken & set(_TAKEN_BY[kind]):
            what = {"occupation": "an occupation", "examples": "examples"}.get(kind, f"a {kind}")
            able = [name for name in FAMILIES if family_spec(name).subject in _TAKEN_BY[kind]]
            raise UsageError(
                f"no family in evals.families ({', '.join(families) or 'none'}) writes items for {what}; "
                f"add one of {', '.join(able)} with --family"
            )


def subjects_of(
    kind: str,
    cfg: EvalsConfig,
    behaviors: Sequence[str],
    principles: Sequence[Principle],
    whole: Constitution | None,
) -> list[tuple[str, list[Any]]]:
    """Each set's name with what it is written for; `whole` is the constitution where all of it is."""
    if kind == "behavior":
        return [(slug(behavior), [behavior]) for behavior in behaviors]
    if kind == "examples":
        shots = read_shots(cfg.examples)
        seeds = [seed_of_behavior(behavior, shots) for behavior in behaviors]
        seeds += [seed_of_principle(principle, shots) for principle in principles]
        return [(slug(seed.behavior), [seed]) for seed in seeds]
    if kind == "occupation":
        own = [Occupation(name=behavior.strip()) for behavior in behaviors]
        occupations = read_occupations(cfg.occupations) if cfg.occupations else own
        return [("winogender", occupations)] if occupations else []
    if cfg.per_principle:
        return [(slug(principle.id), [principle]) for principle in principles]
    name = whole.name if whole else "-".join(principle.id for principle in principles)
    return [(slug(name), list(principles))] if principles else []


def named(subject: Any) -> str:
    """What a set is written for, in the words of whoever asked for it."""
    if isinstance(subject, Principle):
        return subject.id
    if isinstance(subject, Seed):
        return subject.behavior
    return subject.name if isinstance(subject, Occupation) else str(subject)


def shown_examples(subjects: Sequence[Any]) -> dict[str, str]:
    """What the examples ask that the writer of a set knows, by principle or behaviour and number."""
    shown: dict[str, str] = {}
    for one in subjects:
        if isinstance(one, Principle):
            shown |= {f"{one.id}:{at}": each.prompt for at, each in enumerate(one.examples, 1)}
        elif isinstance(one, Seed):
            shown |= {f"{one.behavior}:{at}": each.stem for at, each in enumerate(one.shots, 1)}
    return shown
