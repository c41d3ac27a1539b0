"""What keeps a row out of a training set: the filters of its run, and a judge that does not accept it.

Each raises `NotExportable` with its reason.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from constitute.data.formats import NotExportable
from constitute.store import Store
from constitute.types import LabelledPair, Outcome, Response

_FILTER = "filter"
# The end of the id of a pair of revisions, and the source of a sample's answer.
_OF_REVISION = re.compile(r"-rev(?:\d+-\d+)?$")
_SAMPLE = re.compile(r"response (?P<sample>\d+)(?:,|$)")


def refuse_removed(store: Store, response_id: str, *, revised: bool) -> None:
    """Raise `NotExportable` where a filter removed the response, or with `revised` its revision."""
    found = store.outcome(_FILTER, response_id)
    if revised and found is None:
        raise NotExportable("not filtered yet; `constitute filter` goes on")
    if found is None or found.status == "ok":
        return
    if not revised and _ended_ok(store.outcome("revise", response_id)):
        return  # what the filter saw was the revision
    raise NotExportable(found.reason or found.status)


def refuse_removed_pair(store: Store, pair: LabelledPair) -> None:
    """Raise `NotExportable` for a pair one of whose answers a filter removed; one's own pairs have none."""
    row = pair.comparison
    if row.b_source.startswith("revision"):
        refuse_removed(store, _OF_REVISION.sub("", row.id), revised=True)
    elif row.id.endswith("-against") and row.b_source.endswith(", label.against"):
        refuse_removed(store, row.id.removesuffix("-against"), revised=False)
    elif (a := _SAMPLE.match(row.a_source)) and (b := _SAMPLE.match(row.b_source)):
        for found in (a, b):
            refuse_removed(store, f"{row.prompt.id}/{found['sample']}", revised=False)


def as_reviewed(pair: LabelledPair, people: Mapping[str, float], reviewed: str) -> tuple[LabelledPair, bool]:
    """The pair with the label that people gave it, and whether they gave one; `people` as `human_choices`.

    Raises `NotExportable` where they are undecided, and with `reviewed=only` where nobody chose.
    """
    chosen = people.get(pair.id)
    if chosen is None:
        if reviewed == "only":
            raise NotExportable("nobody reviewed it (export.reviewed=only)")
        return pair, False
    if chosen == 0.5:
        raise NotExportable("people are undecided about it (export.reviewed)")
    return pair.model_copy(update={"label": pair.label.model_copy(update={"p_a": chosen})}), True


def _ended_ok(outcome: Outcome | None) -> bool:
    return outcome is not None and outcome.status == "ok"


def require_accepted(response: Response, label: LabelledPair | None) -> None:
    """Raise `NotExportable` unless the judge prefers the last revision to the response in both orders.

    In each order it is the mean of the votes that decided, by weight. A method that shows no order counts
    in both.
    """
    if response.final == response.response:
        raise NotExportable("the revision is the response, so no judge could prefer it")
    if label is None:
        raise NotExportable("no label of its revision to accept it by")
    row = label.comparison
    if (row.a, row.b) != (response.response, response.final):
        raise NotExportable("its label is of other answers")
    decided = label.label.decided_by
    votes = [vote for vote in label.label.votes if not decided or vote.principle_id in decided]
    first, second = (
        math.fsum(vote.weight * p for vote, p in zip(votes, values, strict=True))
        / math.fsum(vote.weight for vote in votes)
        for values in (
            [vote.p_ab for vote in votes],
            [vote.p_ab if vote.p_ba is None else vote.p_ba for vote in votes],
        )
    )
    if max(first, second) < 0.5:
        return
    if min(first, second) < 0.5:
        raise NotExportable("the judge prefers the revision in one order only")
    raise NotExportable("the judge does not prefer the revision")
