"""Results of tests that a store holds: whether each example was kept to, under the words it was asked in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from constitute.config import LabelConfig
from constitute.constitution.examples import ExamplePair, example_hash, example_pairs
from constitute.editing.trial.figures import TrialResult, prefers
from constitute.engines.base import ModelIdentity
from constitute.errors import RunMismatch
from constitute.stages.few_shot import examples_hash, shows_own
from constitute.stages.labels import label_method
from constitute.stages.labels.candidates import candidate_config
from constitute.store import FILE_NAME, Store
from constitute.templates import template_hash
from constitute.types import Constitution, Principle, Record

_LAST = "trial"


class Before(Record):
    """An example of two constitutions: whether it was kept to under each; None where that is not known."""

    principle: str
    number: int
    method: str
    prompt: str
    before: float | None
    after: float | None

    @property
    def turned(self) -> bool:
        """Whether it is kept to under one and not under the other."""
        known = (self.before, self.after)
        return None not in known and prefers(known[0] or 0.0) != prefers(known[1] or 0.0)


def one_vote(cfg: LabelConfig) -> LabelConfig:
    """The settings for a pair on which one principle votes: no rule among principles has a part in it."""
    among = ("principles", "adaptive", "adaptive_margin", "rule", "threshold", "pairs", "rank", "against")
    usual = {name: LabelConfig.model_fields[name].default for name in among}
    return cfg.model_copy(update=usual)


def made_by(identity: ModelIdentity, cfg: LabelConfig, seed: int) -> str:
    """16 hex digits of what decides a test besides the principle and the example."""
    settings = [
        identity.model_dump(mode="json"),
        one_vote(cfg).model_dump(mode="json"),
        {name: template_hash(name) for name in label_method(cfg.method).templates(cfg)},
        seed,
    ]
    return _digest(settings)


def question_key(asked: ExamplePair, cfg: LabelConfig) -> str:
    """16 hex digits of what the judge is shown of the principle and the example."""
    return _digest([*wording(asked.principle, cfg), example_hash(asked.example)])


def wording(principle: Principle, cfg: LabelConfig) -> list[str]:
    """What the method shows of the principle, and its id and text, which are part of every question."""
    shown = [principle.id, principle.text, str(getattr(principle, label_method(cfg.method).form))]
    return [*shown, examples_hash(principle)] if shows_own(cfg) else shown


def keep(store: Store, result: TrialResult, found: Mapping[str, Mapping[str, float]]) -> None:
    """Keep the result as the last one, and `found`: by `made_by`, P(better) by `question_key`."""
    for made, values in found.items():
        store.put_meta(f"{_LAST}:{made}", {**(store.meta(f"{_LAST}:{made}") or {}), **values})
    store.put_meta(_LAST, result.model_dump(mode="json"))


def last_result(store: Store) -> TrialResult | None:
    """The last result that the store keeps; None where there is none, or one of another version."""
    held = store.meta(_LAST)
    try:
        return None if held is None else TrialResult.model_validate(held)
    except ValidationError:
        return None


def known(
    store: Store, made: str, cfg: LabelConfig, constitution: Constitution
) -> list[tuple[ExamplePair, float | None]]:
    """Every example but drafts with P(better) as it was found under these very words; None if it was not."""
    values: dict[str, float] = store.meta(f"{_LAST}:{made}") or {}
    return [
        (each, values.get(question_key(each, cfg)))
        for each in example_pairs(constitution)
        if not each.example.draft
    ]


def known_text(found: Sequence[tuple[ExamplePair, float | None]]) -> str:
    """What is known of a constitution's tests in one sentence; empty where nothing is."""
    tested = [(each, p) for each, p in found if p is not None]
    if not tested:
        return ""
    broken = [f"{each.principle.id} {each.number}" for each, p in tested if not prefers(p)]
    rest = len(found) - len(tested)
    said = f"its examples: {len(tested) - len(broken)} of {len(tested)} tested are kept to"
    said += f", not {_some(broken)}" if broken else ""
    return said + (f"; {rest} not tested under these words" if rest else "")


def compared(folder: Path, label: LabelConfig, a: Constitution, b: Constitution) -> list[Before]:
    """The examples of both constitutions by what the store in `folder` knows of the judge that tested last.

    Only examples that are known under one of the two; empty where nothing was tested in `folder`.
    """
    if not (folder / FILE_NAME).is_file():
        return []
    try:
        with Store.open(folder, create=False, readonly=True) as store:
            return _compared(store, label, a, b)
    except RunMismatch:
        # A cache of another version holds nothing that can be read.
        return []


def _compared(store: Store, label: LabelConfig, a: Constitution, b: Constitution) -> list[Before]:
    last = last_result(store)
    found: list[Before] = []
    for method, made in last.made_by.items() if last else ():
        name, _, layout = method.partition(", ")
        cfg = candidate_config(label, name, layout)
        before, after = (
            {each.pair.id: (each, p) for each, p in known(store, made, cfg, side)} for side in (a, b)
        )
        for place in dict.fromkeys([*after, *before]):
            each, _ = after.get(place) or before[place]
            p = [side[place][1] if place in side else None for side in (before, after)]
            if p != [None, None]:
                row = Before(
                    principle=each.principle.id,
                    number=each.number,
                    method=method,
                    prompt=each.example.prompt,
                    before=p[0],
                    after=p[1],
                )
                found.append(row)
    return found


def _some(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
