"""docs/settings.md holds every key of run.yaml once, with its default; training.md those of the trainers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from places import ROOT
from pydantic import BaseModel

from constitute.config import RunConfig

TEXT = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
TRAINERS = {f"train.{name}" for name in type(RunConfig().train).model_fields if name != "method"}


def keys_of(model: BaseModel, section: str = "") -> Iterator[tuple[str, object]]:
    """(dotted key, default) of every setting that is no section."""
    for name, field in type(model).model_fields.items():
        value, key = getattr(model, name), f"{section}{name}"
        if isinstance(value, BaseModel):
            if key not in TRAINERS:
                yield from keys_of(value, f"{key}.")
        else:
            assert name in type(model).model_fields and not field.is_required(), key
            yield key, value


def documented() -> list[tuple[str, str, str]]:
    """(dotted key, default, meaning) of every row of the tables."""
    tables = re.findall(r"^\| `([\w.]*)` \| default \| meaning \|\n\|---.*\n((?:\|.*\n?)+)", TEXT, flags=re.M)
    rows = [(section, re.split(r"(?<!\\)\|", line)) for section, body in tables for line in body.splitlines()]
    return [(section + cells[1].strip(" `"), cells[2].strip(), cells[3].strip()) for section, cells in rows]


def written(value: object) -> str:
    """A default as the document writes it."""
    if value is None or value == () or value == "" or value == {}:
        return "none"
    if isinstance(value, tuple):
        return ", ".join(map(written, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value).replace("\n", "\\n")


def test_every_key_stands_once_with_its_default_and_what_it_means() -> None:
    found = documented()
    assert len({key for key, *_ in found}) == len(found)
    there = {key: default for key, default, _ in found}
    wanted = {key: written(value) for key, value in keys_of(RunConfig())}
    lacking = {key: default for key, default in wanted.items() if there.get(key) != default}
    assert not lacking, f"give docs/settings.md rows with these keys and defaults: {lacking}"
    assert not there.keys() - wanted, "rows of docs/settings.md for keys that are gone"
    assert all(len(meaning) > 10 for *_, meaning in found)


def test_the_keys_compared_are_all_there_are() -> None:
    """The comparison sees more than a hundred keys, nested ones among them."""
    keys = dict(keys_of(RunConfig()))
    assert len(keys) > 90
    assert (keys["label.likelihood.beta"], keys["evals.statement.top_p"]) == (None, 0.975)
    whole = {"train.method", "train.optimizer", "train.save_dtype"}
    assert {key for key in keys if key.startswith("train.")} == whole
