"""Columns that a set's rows lack: what BBQ's answers stand for, Winogender's blanks, ETHICS' pairs."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

from constitute.errors import DataError
from constitute.files import Row

_WORD = re.compile(r"[A-Za-z]+|[^A-Za-z]+")
# Words of BBQ's answers for people of a gender, which its metadata names F and M.
_GENDERS = {"woman": "f", "girl": "f", "man": "m", "boy": "m"}


def bbq(rows: Iterator[Row]) -> Iterator[Row]:
    """Adds `unknown` and `biased`, places of answers; `biased` is empty where the row does not tell.

    The biased answer is the stereotyped group in a negative question and the other one in a non-negative
    question (Parrish et al., arXiv 2110.08193, section 4).
    """
    for row in rows:
        value = row.value
        try:
            about = [value["answer_info"][f"ans{at}"] for at in range(3)]
            groups = {str(each).lower() for each in value["additional_metadata"]["stereotyped_groups"]}
            negative = value["question_polarity"] == "neg"
        except (KeyError, TypeError):
            raise DataError(
                f"{row.where}: no row of BBQ: it needs answer_info, additional_metadata and question_polarity"
            ) from None
        unknown = [at for at, each in enumerate(about) if "unknown" in map(str.lower, map(str, each))]
        people = [at for at in range(3) if at not in unknown]
        targets = [at for at in people if _names(about[at]) & groups]
        known = len(unknown) == 1 and len(targets) == 1
        biased = [at for at in people if (at in targets) is negative]
        yield Row(
            row.where,
            {
                **value,
                "unknown": str(unknown[0]) if unknown else "",
                "biased": str(biased[0]) if known else "",
            },
        )


def _names(about: list[Any]) -> set[str]:
    """All names that an answer's group goes by, those of its parts (`F-Black`) among them."""
    texts = [str(each).lower() for each in about]
    parts = {part for text in texts for part in re.split(r"[-_ ]", text)}
    return {*texts, *parts, *(_GENDERS[part] for part in parts if part in _GENDERS)}


def winogender(rows: Iterator[Row]) -> Iterator[Row]:
    """One row for the male, female and neutral sentence of a template, with `_` for the pronoun."""
    for key, group in groupby(rows, lambda row: str(row.value.get("sentid", "")).rsplit(".", 2)[0]):
        found = list(group)
        by_gender = {str(row.value["sentid"]).split(".")[-2]: row for row in found if "sentid" in row.value}
        names = key.split(".")
        if set(by_gender) != {"male", "female", "neutral"} or len(names) != 3:
            raise DataError(
                f"{found[0].where}: no three sentences, male, female and neutral, of {key!r}; "
                "give all_sentences.tsv as published"
            )
        words = [_WORD.findall(by_gender[g].value["sentence"]) for g in ("male", "female", "neutral")]
        at = next((i for i, three in enumerate(zip(*words, strict=False)) if len(set(three)) > 1), None)
        if at is None or any(each[at + 1 :] != words[0][at + 1 :] for each in words[:2]):
            raise DataError(f"{found[0].where}: the sentences of {key!r} differ by more than a pronoun")
        yield Row(
            found[0].where,
            {
                "occupation": names[0],
                "participant": names[1],
                "referent": "occupation" if names[2] == "0" else "participant",
                "pronoun_options": [each[at] for each in words],
                "sentence_with_blank": "".join([*words[0][:at], "_", *words[0][at + 1 :]]),
            },
        )


def ethics(rows: Iterator[Row]) -> Iterator[Row]:
    """Takes the trait out of a virtue scenario, and puts the two of utilitarianism in a fixed random order.

    The order and the cut excuse are those of lm-evaluation-harness, so that scores can be compared. `label`
    is then 1 where the better scenario, the first of the file, comes first.
    """
    for row in rows:
        value = dict(row.value)
        if "trait" not in value and "[SEP]" in str(value.get("scenario", "")):
            value["scenario"], _, value["trait"] = (
                part.strip() for part in str(value["scenario"]).partition("[SEP]")
            )
        if isinstance(value.get("excuse"), str):
            value["excuse"] = value["excuse"].rstrip()
        pair = next((p for p in _PAIRS if set(p) <= set(value)), None)
        if pair is not None:
            better, worse = (str(value[name]) for name in pair)
            order = [0, 1]
            random.Random(better).shuffle(order)
            first, second = ((better, worse)[at] for at in order)
            value |= {"first": first, "second": second, "label": int(order[0] == 0)}
        yield Row(row.where, value)


# Names of utilitarianism's columns, the better scenario first.
_PAIRS = (("activity", "baseline"), ("baseline", "less_pleasant"))

# Name -> what adds columns to rows.
PREPARE: dict[str, Callable[[Iterator[Row]], Iterator[Row]]] = {
    "bbq": bbq,
    "ethics": ethics,
    "winogender": winogender,
}
