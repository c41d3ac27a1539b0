"""What is read from another program's log, and how it becomes a result that `evals compare` takes."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from constitute.config import RunConfig
from constitute.config.evals import EvalsConfig
from constitute.errors import Abstain, DataError, UsageError
from constitute.evals.families.base import ItemScore, compare_answers
from constitute.evals.families.persona import has_labels
from constitute.evals.figures import score_set, with_groups
from constitute.evals.imports import read_set_log
from constitute.evals.items import file_name
from constitute.evals.run import SetResult, policy_name, result_path, save_result
from constitute.types import EvalItem, Record


class LogItem(Record):
    """An item of a log: what was asked, and the answers' log-probabilities or else whether it matched.

    `reason` says why there is neither; `failed` that the item could not be asked.
    """

    item: EvalItem
    logprobs: tuple[float, ...] | None = None
    matching: bool | None = None
    reason: str = ""
    failed: bool = False


class SetLog(Record):
    """A log of one set. `size` counts its items, some of which the log may lack; `via` is the program."""

    set: str
    size: int
    items_hash: str
    via: str
    model: dict[str, Any]
    rows: tuple[LogItem, ...]


@dataclass(frozen=True)
class LogFormat:
    """A program's logs: how one is told from other files, and read."""

    about: str
    detect: Callable[[Path], bool]
    read: Callable[[Path], SetLog]


def import_logs(
    config: RunConfig, paths: Sequence[Path], *, policy: str | None = None, force: bool = False
) -> list[SetResult]:
    """Read logs and save their results in the run; nothing is saved where one of them cannot be.

    Raises `UsageError` where a result would take the place of another, unless `force`.
    """
    results: dict[tuple[str, str], SetResult] = {}
    for path in paths:
        log = read_set_log(path)
        if log.size < len(log.rows):
            raise DataError(f"{path} has {len(log.rows)} items of a set that is said to have {log.size}")
        name = policy or f"{policy_name(str(log.model['name']), config.run)}-{log.via}"
        result = result_of(log, file_name(name), config.evals)
        place = (result.set, result.policy)
        there = result_path(config.run, *place)
        if place in results or (there.exists() and not force):
            raise UsageError(
                f"{path} would take the place of {there}; name the policy with --policy, "
                "or --force to replace it"
            )
        results[place] = result
    for result in results.values():
        save_result(config.run, result)
    return list(results.values())


def result_of(log: SetLog, policy: str, cfg: EvalsConfig) -> SetResult:
    """The log as a result. Raises `GateFailed` as `score_set`, for a log without enough scores."""
    scores: list[ItemScore] = []
    unparsed: Counter[str] = Counter()
    for row in log.rows:
        try:
            scores.append(_score(row))
        except Abstain as reason:
            unparsed[str(reason)] += 1
    items = [row.item for row in log.rows]
    scored = score_set(log.set, items, scores, dict(unparsed), cfg)
    missing = log.size - len(log.rows)
    return SetResult(
        **dict(scored) | {"unparsed": scored.unparsed | ({"not in the log": missing} if missing else {})},
        set=file_name(log.set),
        policy=policy,
        model=log.model,
        items_hash=log.items_hash,
        failed=missing + sum(row.failed for row in log.rows),
        scores=with_groups(items, scores),
    )


def _score(row: LogItem) -> ItemScore:
    """The item's score, as `evals run` has it: labels with little probability count, and make it thin."""
    if row.logprobs is not None:
        mass = math.fsum(map(math.exp, row.logprobs)) if has_labels(row.item) else None
        labels = row.item.options
        return compare_answers(row.item, row.logprobs, row.item.matching, labels=labels, mass=mass)
    if row.matching is None:
        raise Abstain(row.reason)
    return ItemScore(
        id=row.item.id,
        logprobs=(),
        p_matching=None,
        matching=row.matching,
        mass=None,
        context=row.item.context,
    )


def lacks(result: SetResult) -> list[str]:
    """What the log did not say, in words."""
    bare = sum(score.p_matching is None for score in result.scores)
    said = []
    if bare:
        said.append(
            f"{bare} of {len(result.scores)} items have no log-probabilities, only whether they match: they "
            "count in the share and not in the mean P(matching)"
        )
    if missing := result.unparsed.get("not in the log", 0):
        said.append(f"{missing} of {result.share.n + result.n_unparsed} items are not in the log")
    return said


def one_set(where: str, origins: Iterable[Mapping[str, Any]]) -> tuple[str, int, str] | None:
    """Set, size and hash that every row of an exported set names; None where none does.

    Raises `DataError` where rows are of several sets.
    """
    keys = ("set", "items", "items_hash")
    found = {tuple(origin.get(key) for key in keys) for origin in origins}
    if found == {(None, None, None)}:
        return None
    named = found.pop()
    if found or not (isinstance(named[0], str) and isinstance(named[1], int) and isinstance(named[2], str)):
        raise DataError(
            f"{where}: its rows are not of one exported set; run a set of `constitute evals export` unchanged"
        )
    return named[0], named[1], named[2]


def digest_of(rows: Iterable[Any]) -> str:
    """A hash of a set that is not ours: two logs of it are comparable if it is equal."""
    return hashlib.sha256(json.dumps(sorted(map(json.dumps, rows))).encode()).hexdigest()[:16]


def logged_item(where: str, **values: Any) -> EvalItem:
    """An item as a log has it. Raises `DataError` where it lacks something."""
    try:
        return EvalItem.model_validate(values)
    except ValidationError as problem:
        said = str(problem.errors()[0]["msg"]).removeprefix("Value error, ")
        raise DataError(f"{where}: the item cannot be read ({said})") from None


def refuse_twice(where: str, rows: Iterable[LogItem], hint: str) -> None:
    """Raise `DataError` where an item is there twice."""
    ids = Counter(row.item.id for row in rows)
    if not ids:
        raise DataError(f"{where} has no items; nothing can be imported")
    twice = [name for name, count in ids.items() if count > 1]
    if twice:
        raise DataError(f"{where}: item {twice[0]!r} is there {ids[twice[0]]} times; {hint}")
